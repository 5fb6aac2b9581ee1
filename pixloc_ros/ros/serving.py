"""What a configured node holds: its maps, and the network that filled them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.localization import Atlas, LocalizerOptions
from pixloc_ros.options import override, select_device
from pixloc_ros.ros.parameters import NodeParameters


@dataclass(frozen=True)
class Serving:
    """Maps that are served. Raises InputError, MapError or CheckpointError when they cannot be."""

    path: str
    atlas: Atlas
    network: FeatureNetwork

    @classmethod
    def load(cls, parameters: NodeParameters) -> Serving:
        """Read maps and network, and run them once."""
        if parameters.num_threads:
            torch.set_num_threads(parameters.num_threads)
        network = open_network(parameters.weights or None).to(select_device(parameters.device))
        serving = cls.of(parameters, network)
        serving.atlas.warm_up()
        return serving

    @classmethod
    def of(cls, parameters: NodeParameters, network: FeatureNetwork) -> Serving:
        """Read the maps only."""
        options = override(LocalizerOptions(), parameters.localizer)
        frame = parameters.global_frame_id
        atlas = Atlas(parameters.map, network, options, parameters.cache_mb, frame)
        for own in (parameters.odom_frame_id, parameters.base_frame_id):
            if own in atlas.frames:
                atlas.close()
                raise InputError(f"{parameters.map}: frame {own} is the robot's, not a map's")
        return cls(parameters.map, atlas, network)

    def on_cpu(self) -> Serving:
        """The same maps, with the network moved to the CPU."""
        network = self.network.cpu()
        self.atlas.move(network)
        return Serving(self.path, self.atlas, network)

    def close(self) -> None:
        self.atlas.close()
