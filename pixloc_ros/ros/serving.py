"""What a configured node holds: a map, the network that filled it, and a localizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override, select_device
from pixloc_ros.ros.parameters import NodeParameters


@dataclass(frozen=True)
class Serving:
    """A map that is served. Raises InputError, MapError or CheckpointError when it cannot be."""

    path: str
    map: PixMap
    network: FeatureNetwork
    localizer: Localizer

    @classmethod
    def load(cls, parameters: NodeParameters) -> Serving:
        """Read map and network, and run them once."""
        if parameters.num_threads:
            torch.set_num_threads(parameters.num_threads)
        options = override(LocalizerOptions(), parameters.localizer)
        network = open_network(parameters.weights or None).to(select_device(parameters.device))
        serving = cls.of(parameters, network, options)
        serving.localizer.warm_up()
        return serving

    @classmethod
    def of(
        cls, parameters: NodeParameters, network: FeatureNetwork, options: LocalizerOptions
    ) -> Serving:
        """Read the map only."""
        pixmap = PixMap(parameters.map)
        try:
            localizer = Localizer(pixmap, network, options, parameters.cache_mb)
        except Exception:
            pixmap.close()
            raise
        return cls(parameters.map, pixmap, network, localizer)

    def on_cpu(self) -> Serving:
        """The same map, with the network moved to the CPU."""
        network, old = self.network.cpu(), self.localizer
        localizer = Localizer(self.map, network, old.options, old.cache_mb)
        localizer.tracing = old.tracing
        return Serving(self.path, self.map, network, localizer)

    def close(self) -> None:
        self.map.close()
