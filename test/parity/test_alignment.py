"""Alignment against numbers recorded from the original implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixloc_ros.alignment import (
    AlignmentProblem,
    LMOptions,
    QueryMap,
    align,
    average_observations,
    damped_step,
    learned_damping,
    linearize,
    optimize_level,
)
from pixloc_ros.alignment.kernels.packing import can_pack
from pixloc_ros.features import PyramidLevel, extract_pyramid
from pixloc_ros.features.image import to_tensor
from pixloc_ros.geometry import CAUCHY, Camera, FeatureTable, Pose, average_pose
from pixloc_ros.training.losses import ReprojectionLoss, masked_mean

PAD = {"A": 2, "B": 1, "C": 2, "D": 2}


def tensor(array):
    return torch.from_numpy(np.asarray(array))


def original_camera(data):
    """Camera from the original's (w, h, fx, fy, cx, cy, distortion) with centres at integers."""
    data = tensor(data).double()
    k = F.pad(data[6:], (0, 4 - data[6:].numel()))
    return Camera.from_colmap(
        "OPENCV",
        *data[:2].tolist(),
        [*data[2:4].tolist(), *(data[4:6] + 0.5).tolist(), *k.tolist()],
    ).to(torch.float32)


def pose12(data):
    data = tensor(data).float()
    return Pose(data[..., :9].reshape(*data.shape[:-1], 3, 3), data[..., 9:])


def joined_table(features, confidence):
    return FeatureTable(torch.cat([features, confidence.unsqueeze(-3)], -3))


def flat(pose):
    return torch.cat([pose.rotation.flatten(-2), pose.translation], -1)


def image_pyramid(network, image, scale, levels):
    """The original shrinks to 1024 / scale and normalizes the query's maps."""
    pyramid = extract_pyramid(
        network, image, [PyramidLevel(1024 // scale, level) for level in levels]
    )
    return dict(zip(levels, pyramid.levels, strict=True))


def problem_of(o, case, scale, level, maps):
    reference = tensor(o[f"s{scale}_ref_feat{level}"])
    return AlignmentProblem(
        QueryMap.of(maps[0], maps[1]),
        original_camera(o[f"s{scale}_L{level}_camera"]),
        tensor(o[f"s{scale}_p3d"]).float()[None],
        F.normalize(reference[None, :, :-1], dim=-1),
        reference[None, :, -1],
        torch.ones(1, len(reference), dtype=torch.bool),
        pad=PAD[case],
    )


def dense_maps(o, scale, level):
    features = F.normalize(tensor(o[f"s{scale}_q_feat{level}"]), dim=0)
    confidence = tensor(o[f"s{scale}_q_conf{level}"])
    return features, confidence.reshape(features.shape[1:])


def check_level(o, case, scale, level, maps, pose):
    """Every recorded iteration of one level; returns the pose it ends at."""
    key = f"s{scale}_L{level}"
    problem = problem_of(o, case, scale, level, maps)
    recorded = pose12(o[f"{key}_T"])
    damping = tensor(o["lambda_per_level"][level])
    seen = []

    def observe(number, system, delta, after):
        seen.append(number)
        assert torch.allclose(flat(after)[0], flat(recorded)[number], atol=1e-5), (key, number)
        step = torch.cat(
            [Pose.from_rotvec(delta[:, 3:], delta[:, :3]).rotation.flatten(-2), delta[:, :3]], -1
        )
        assert torch.allclose(step[0], tensor(o[f"{key}_T_delta"][number]), atol=1e-5)
        assert int(system.valid.sum()) == int(o[f"{key}_n_valid"][number])
        cost, _ = CAUCHY(system.squared)
        mean = (cost * system.valid).sum() / system.valid.sum()
        assert abs(float(mean) - o[f"{key}_cost_mean"][number]) < 1e-5
        weighted = (cost * system.confidence).sum()
        assert float(weighted) == pytest.approx(float(o[f"{key}_cost_weighted"][number]), rel=1e-4)
        hessian, gradient = tensor(o[f"{key}_H"][number]), tensor(o[f"{key}_g"][number])
        if number == 0:
            assert torch.allclose(
                system.hessian[0], hessian, rtol=1e-4, atol=1e-4 * hessian.abs().max()
            )
            assert (system.gradient[0] - gradient).abs().max() < 1e-4 * gradient.abs().max()
            valid = tensor(o[f"{key}_it0_valid"])
            assert torch.equal(system.valid[0], valid)
            for ours, name in [
                (cost[0], "cost"),
                (system.confidence[0], "w_unc"),
                (system.weight[0], "weights"),
            ]:
                theirs = tensor(o[f"{key}_it0_{name}"])
                assert torch.allclose(ours[valid], theirs[valid], atol=2e-5), name

    options = LMOptions(iterations=len(recorded), tolerance=0.0, reject_steps=False)
    result = align([problem], pose, [damping], options, lambda level, *rest: observe(*rest))
    assert len(seen) == len(recorded)
    assert not result.failed.any()
    return result.pose


@pytest.mark.parametrize(("name", "level"), [("A", 2), ("A", 1), ("A", 0), ("B", 1), ("D", 1)])
def test_fused_kernels_pass_every_recorded_pose(case, networks, name, level):
    """Without an observer the fused kernels run: the same poses after every iteration."""
    pytest.importorskip("numba", reason="the fused kernels of processors need numba")
    o = case(name)
    key = f"s1_L{level}"
    if f"s1_q_feat{level}" in o and int(o[f"s1_q_stride{level}"]) == 1:
        maps = dense_maps(o, 1, level)
    else:
        computed = image_pyramid(networks["vgg19"], o["query_image_rgb"], 1, (level,))[level]
        maps = computed.features, computed.confidence
    problem = problem_of(o, name, 1, level, maps)
    recorded, damping = pose12(o[f"{key}_T"]), tensor(o["lambda_per_level"][level])
    start = pose12(o[f"{key}_T_start"])[None]
    for count in (1, 2, len(recorded)):
        options = LMOptions(iterations=count, tolerance=0.0, reject_steps=False)
        with torch.no_grad():
            assert can_pack(problem, start, damping)
            found = optimize_level(problem, start, damping, options)
        assert torch.allclose(flat(found.pose)[0], flat(recorded)[count - 1], atol=2e-5)


def starts(o, scale):
    start = tensor(o[f"s{scale}_T_init"]).float()[None]
    return Pose(start[:, :9].reshape(1, 3, 3), start[:, 9:])


def test_case_a_from_stored_maps(case):
    o = case("A")
    pose = starts(o, 1)
    for level in (2, 1, 0):
        pose = check_level(o, "A", 1, level, dense_maps(o, 1, level), pose)
    assert torch.allclose(pose.translation[0], tensor(o["T_refined_t"]).float(), atol=1e-5)
    assert torch.allclose(pose.rotation[0], tensor(o["T_refined_R"]).float(), atol=1e-5)


@pytest.mark.parametrize(("name", "scale", "level"), [("A", 1, 2), ("A", 1, 0), ("B", 1, 1)])
def test_jacobian_blocks(case, name, scale, level):
    """The D x 6 blocks that we never form still agree: rebuild them from our factors."""
    o = case(name)
    key = f"s{scale}_L{level}"
    problem = problem_of(o, name, scale, level, dense_maps(o, scale, level))
    pose = pose12(o[f"{key}_T_start"])[None]
    inside = pose.transform(problem.points)
    pixels, to_pixels, _ = problem.camera.project_with_jacobian(inside)
    _, slope = problem.query.features.sample_with_gradient(pixels)
    blocks = slope.transpose(-1, -2) @ to_pixels @ pose.transform_jacobian(inside)
    valid = tensor(o[f"{key}_it0_valid"])[:64]
    theirs = tensor(o[f"{key}_it0_J64"])
    assert valid.any()
    assert torch.allclose(blocks[0, :64][valid], theirs[valid], atol=1e-4 * theirs.abs().max())


def test_case_b_from_stored_and_computed_maps(case, networks):
    """OPENCV distortion, start from the weighted mean of the retrieved poses."""
    o = case("B")
    computed = image_pyramid(networks["vgg19"], o["query_image_rgb"], 1, (0, 1, 2))
    pose = starts(o, 1)
    for level in (2, 1, 0):
        if level:
            maps = dense_maps(o, 1, level)
        else:  # stored with a stride only: check the sample, use our own map
            maps = (computed[0].features, computed[0].confidence)
            sample = F.normalize(tensor(o["s1_q_feat0"]), dim=0)
            assert torch.allclose(maps[0][:, ::3, ::3], sample, atol=1e-4)
        pose = check_level(o, "B", 1, level, maps, pose)
    assert torch.allclose(pose.translation[0], tensor(o["T_refined_t"]).float(), atol=1e-5)


@pytest.mark.parametrize("name", ["A", "B", "D"])
def test_from_images(case, networks, name):
    """From pixels to the final pose: features, sampled features, every iteration, the result."""
    o = case(name)
    network = networks["vgg19"]
    levels = (1, 0) if name == "D" else (2, 1, 0)
    pose = None
    for scale in o["image_scales"].tolist():
        maps = image_pyramid(network, o["query_image_rgb"], scale, levels)
        for level in levels:
            assert maps[level].scale == pytest.approx(tuple(o[f"s{scale}_feature_scales"][level]))
            stored = o.get(f"s{scale}_q_feat{level}")
            if stored is not None and int(o[f"s{scale}_q_stride{level}"]) == 1:
                tensor_image = to_tensor(o["query_image_rgb"], 1024 // scale, False)[None]
                with torch.no_grad():
                    output = network(tensor_image)
                assert torch.allclose(output.features[level][0], tensor(stored), atol=1e-4)
                confidence = tensor(o[f"s{scale}_q_conf{level}"]).reshape(
                    output.confidence[level][0].shape
                )
                assert torch.allclose(output.confidence[level][0], confidence, atol=1e-4)
        check_references(o, network, scale, levels, averaged=name == "D")
        pose = starts(o, scale) if pose is None else pose
        for level in levels:
            pose = check_level(
                o, name, scale, level, (maps[level].features, maps[level].confidence), pose
            )
    metres, radians = pose.distance(
        pose12(np.r_[o["T_refined_R"].ravel(), o["T_refined_t"]])[None]
    )
    assert float(metres) < 1e-4
    assert float(torch.rad2deg(radians)) < 1e-3


def test_case_c_steps(case, networks):
    """Two image scales: each recorded system, damped by us, gives the recorded pose.

    This case stores no reference features, so its systems cannot be rebuilt; the statistics of
    its query maps, its image scales, its steps and the chain of its poses can.
    """
    o = case("C")
    pose = starts(o, 4)
    for scale in (4, 1):
        assert torch.allclose(flat(pose), flat(starts(o, scale)), atol=1e-5)
        image = to_tensor(o["query_image_rgb"], 1024 // scale, False)[None]
        with torch.no_grad():
            output = networks["vgg19"](image)
        maps = image_pyramid(networks["vgg19"], o["query_image_rgb"], scale, (2, 1, 0))
        for level in (2, 1, 0):
            key = f"s{scale}_L{level}"
            dense = output.features[level]
            recorded = o[f"s{scale}_q_mean_std{level}"]
            ours = [
                float(dense.mean()),
                float(dense.std()),
                float(output.confidence[level].mean()),
            ]
            assert ours == pytest.approx(recorded.tolist(), abs=1e-4)
            assert maps[level].scale == pytest.approx(tuple(o[f"s{scale}_feature_scales"][level]))
            damping = tensor(o["lambda_per_level"][level])
            for number in range(len(o[f"{key}_T"])):
                hessian, gradient = tensor(o[f"{key}_H"][number]), tensor(o[f"{key}_g"][number])
                delta, solved = damped_step(hessian[None], gradient[None], damping)
                assert solved.all()
                pose = pose.perturb(delta)
                assert torch.allclose(flat(pose)[0], tensor(o[f"{key}_T"][number]), atol=1e-5)
    assert torch.allclose(pose.translation[0], tensor(o["T_refined_t"]).float(), atol=1e-5)


def check_references(o, network, scale, levels, averaged):
    """Each recorded reference row is our sample in one reference, or our mean over several."""
    points = tensor(o[f"s{scale}_p3d"])
    rows = {level: [] for level in levels}
    for j in range(len(o["dbids"])):
        pyramid = image_pyramid(network, o[f"ref{j}_image_rgb"], scale, levels)
        size = to_tensor(o[f"ref{j}_image_rgb"], 1024 // scale, False)
        with torch.no_grad():
            output = network(size[None])
        pose = Pose.from_quaternion(tensor(o[f"ref{j}_qvec"]), tensor(o[f"ref{j}_tvec"]))
        for level in levels:
            camera = pyramid[level].camera(
                original_camera(o[f"ref{j}_camera_pixloc"]).to(torch.float64)
            )
            pixels, _ = camera.project(pose.transform(points))
            table = joined_table(output.features[level][0], output.confidence[level][0])
            rows[level].append((table.sample(pixels), table.inside(pixels)))
    subsets = None
    for level in levels:
        stored = tensor(o[f"s{scale}_ref_feat{level}"])
        samples = torch.stack([s for s, _ in rows[level]])
        if not averaged:
            best = (samples - stored).abs().amax(-1).amin(0)
            assert best.max() < 1e-4
            continue
        # which references saw a point is not recorded: one subset must explain every row,
        # the same at all levels
        count = len(samples)
        errors = []
        for mask in range(1, 2**count):
            chosen = [j for j in range(count) if mask >> j & 1]
            flat_rows = samples[chosen].reshape(-1, samples.shape[-1])
            index = torch.arange(len(points)).repeat(len(chosen))
            mean, confidence = average_observations(
                flat_rows[:, :-1], flat_rows[:, -1], index, len(points)
            )
            errors.append((torch.cat([mean, confidence[:, None]], 1) - stored).abs().amax(-1))
        fits = torch.stack(errors) < 2e-4
        subsets = fits if subsets is None else subsets & fits
    if averaged:
        assert subsets.any(0).all()


def test_start_from_pose_average(case):
    """Case B starts from the references' mean; our average of the same weights gives it."""
    o = case("B")
    poses = Pose.stack(
        [
            Pose.from_quaternion(tensor(o[f"ref{j}_qvec"]), tensor(o[f"ref{j}_tvec"]))
            for j in range(2)
        ]
    )
    target = Pose(tensor(o["s1_T_init"][:9]).reshape(3, 3), tensor(o["s1_T_init"][9:]))
    # the weights are not recorded: recover the one free number from the centre, check the rest
    centres, goal = poses.inverse().translation, target.inverse().translation
    axis = centres[1] - centres[0]
    share = float((goal - centres[0]) @ axis / (axis @ axis))
    assert 0 < share < 1
    mean = average_pose(poses, torch.tensor([1 - share, share], dtype=torch.float64))
    assert torch.allclose(mean.rotation, target.rotation, atol=1e-6)
    assert torch.allclose(mean.translation, target.translation, atol=1e-6)


@pytest.fixture(scope="module")
def unit(parity):
    return {k: tensor(v) for k, v in np.load(parity / "unit_fixtures.npz").items()}


def test_damped_step(unit):
    for damping, name in [(unit["step_lambda"], "step_delta"), (torch.zeros(6), "step_delta_gn")]:
        delta, solved = damped_step(unit["step_H"], unit["step_g"], damping)
        assert solved.all()
        assert torch.allclose(delta, unit[name], atol=1e-9, rtol=1e-7)
    # a masked system moves nothing; ours says so when a system cannot be solved
    hessian, mask = unit["step_H"].clone(), unit["step_mask"]
    hessian[~mask] = float("nan")
    delta, solved = damped_step(hessian, unit["step_g"], unit["step_lambda"])
    assert torch.equal(solved, mask)
    assert torch.allclose(delta, unit["step_delta_masked"], atol=1e-9, rtol=1e-7)


def test_learned_damping(case, networks):
    ours = torch.stack(
        [learned_damping(networks["vgg19"].damping_parameters(i)) for i in range(3)]
    )
    assert torch.allclose(ours, tensor(case("A")["lambda_per_level"]), rtol=1e-5)


def cost_pieces(unit):
    cam = unit["cost_cam"]
    camera = Camera.from_colmap(
        "OPENCV",
        *cam[:2].tolist(),
        [*cam[2:4].tolist(), *(cam[4:6] + 0.5).tolist(), *cam[6:8].tolist(), 0, 0],
    )
    pose = pose12(unit["cost_T"]).to(torch.float64)[None]
    inside = pose.transform(unit["cost_p3d"][None])
    pixels, to_pixels, _ = camera.project_with_jacobian(inside)
    return camera, pose, pixels, to_pixels @ pose.transform_jacobian(inside)


def test_full_cost(unit):
    """Residuals, validity, weights and Jacobians of the direct cost, with raw features."""
    camera, pose, pixels, jacobian = cost_pieces(unit)
    problem = AlignmentProblem(
        QueryMap.of(unit["cost_Fq"].double(), unit["cost_Cq"].double()[0]),
        camera,
        unit["cost_p3d"][None],
        unit["cost_Fref"][None],
        unit["cost_Cref"][None, :, 0],
        torch.ones(1, 80, dtype=torch.bool),
        pad=2,
    )
    system = linearize(problem, pose)
    valid = unit["cost_norm0_valid"]
    assert torch.equal(system.valid[0], valid)
    assert 10 < int(valid.sum()) < 80
    value, slope = problem.query.features.sample_with_gradient(pixels)
    residual = value[0] - unit["cost_Fref"]
    assert torch.allclose(residual[valid], unit["cost_norm0_res"][valid], atol=1e-6)
    assert torch.allclose(
        system.squared[0][valid], unit["cost_norm0_res"][valid].pow(2).sum(-1), atol=1e-5
    )
    assert torch.allclose(system.confidence[0][valid], unit["cost_norm0_weight"][valid], atol=1e-6)
    blocks = slope[0].transpose(-1, -2) @ jacobian[0]
    theirs = unit["cost_norm0_J"]
    assert torch.allclose(blocks[valid], theirs[valid], atol=1e-5 * theirs.abs().max())
    # our reduced system is the sum of their blocks
    weight = system.weight[0][valid]
    hessian = torch.einsum("n,nci,ncj->ij", weight, theirs[valid], theirs[valid])
    gradient = torch.einsum("n,nci,nc->i", weight, theirs[valid], unit["cost_norm0_res"][valid])
    assert torch.allclose(system.hessian[0], hessian, rtol=1e-4, atol=1e-4 * hessian.abs().max())
    assert torch.allclose(
        system.gradient[0], gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max()
    )


def normalization_jacobian(x):
    return torch.func.vmap(torch.func.jacrev(lambda v: F.normalize(v, dim=-1)))(x)


def test_normalization_and_its_derivative(unit):
    """The original can also normalize after sampling: autograd through ours gives the same."""
    assert torch.allclose(normalization_jacobian(unit["Jnorm_x"]), unit["Jnorm_J"], atol=1e-9)
    _, _, pixels, jacobian = cost_pieces(unit)
    table = FeatureTable(unit["cost_Fq"].double())
    value, slope = table.sample_with_gradient(pixels)
    valid = unit["cost_norm1_valid"]
    target = unit["cost_Fref"]
    residual = F.normalize(value[0], dim=-1) - target
    assert torch.allclose(residual[valid], unit["cost_norm1_res"][valid], atol=1e-6)
    blocks = normalization_jacobian(value[0]) @ slope[0].transpose(-1, -2) @ jacobian[0]
    theirs = unit["cost_norm1_J"][valid]
    assert torch.allclose(blocks[valid], theirs, atol=1e-5 * theirs.abs().max())


def test_masked_mean(unit):
    mean = masked_mean(unit["masked_mean_x"], unit["masked_mean_mask"])
    assert torch.allclose(mean, unit["masked_mean"], atol=1e-9)


def test_resize(unit):
    for size in (256, 171):
        ours = to_tensor(unit["resize_src"].numpy(), size, area=False).permute(1, 2, 0) * 255
        width, height = unit[f"resize{size}_shape_scale"][1], unit[f"resize{size}_shape_scale"][0]
        assert ours.shape[:2] == (int(height), int(width))
        assert torch.allclose(ours[::4, ::4], unit[f"resize{size}"], atol=1e-3)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_step(parity, recipe, networks, mode):
    """Forward, losses, metrics, batch-norm buffers and gradients of one training step."""
    o = dict(np.load(parity / "train_step.npz"))
    network = type(networks["vgg19"])()
    network.load_state_dict(networks["vgg19"].state_dict())
    network.train(mode == "train")
    images = {
        side: torch.stack([tensor(o[f"{side}_image{i}"]) for i in range(2)])
        .permute(0, 3, 1, 2)
        .float()
        / 255
        for side in ("ref", "query")
    }
    with torch.set_grad_enabled(mode == "train"):
        # the original runs the two images one after the other: batch norm sees them apart
        outputs = {side: network(images[side]) for side in ("ref", "query")}
        cameras = {
            side: Camera.stack([original_camera(c) for c in o[f"{side}_camera"]])
            for side in ("ref", "query")
        }
        points = tensor(o["points3D_ref"])
        in_ref, to_query, start = (pose12(o[k]) for k in ("ref_T_w2cam", "T_r2q_gt", "T_r2q_init"))
        del in_ref
        pose, poses = start, []
        for level in (2, 1, 0):
            stride = network.strides[level]
            table = joined_table(outputs["ref"].features[level], outputs["ref"].confidence[level])
            pixels, visible = cameras["ref"].scale(1 / stride).project(points)
            sampled = table.sample(pixels)
            problem = AlignmentProblem(
                QueryMap.of(
                    F.normalize(outputs["query"].features[level], dim=1),
                    outputs["query"].confidence[level],
                ),
                cameras["query"].scale(1 / stride),
                points,
                F.normalize(sampled[..., :-1], dim=-1),
                sampled[..., -1],
                visible & table.inside(pixels, 2),
                pad=2,
            )
            options = LMOptions(iterations=4, tolerance=0.0, reject_steps=False)
            damping = learned_damping(network.damping_parameters(level))
            result = align([problem], pose, [damping], options)
            poses.append(result.pose)
            pose = result.pose.detach()
        loss, errors = ReprojectionLoss()(
            cameras["query"], points, to_query, start, poses, (16, 4, 1)
        )
    for number, (ours, error) in enumerate(zip(poses, errors, strict=True)):
        assert torch.allclose(flat(ours), tensor(o[f"{mode}_T_opt{number}"]), atol=2e-4)
        assert torch.allclose(
            error, tensor(o[f"{mode}_loss/reprojection_error/{number}"]), rtol=2e-3, atol=2e-3
        )
        # the original's metric: relative to the length of the true translation
        between = to_query @ ours.inverse()
        relative = between.translation.norm(dim=-1) / to_query.translation.norm(dim=-1)
        _, radians = ours.distance(to_query)
        assert torch.allclose(
            torch.rad2deg(radians), tensor(o[f"{mode}_metric/R_error/{number}"]), atol=1e-2
        )
        assert torch.allclose(relative, tensor(o[f"{mode}_metric/t_error/{number}"]), atol=1e-3)
    assert torch.allclose(loss, tensor(o[f"{mode}_loss/total"]), rtol=1e-3)
    if mode == "train":
        loss.mean().backward()
        norms = json.loads(str(o["grad_norms_json"]))
        gradients = {k: p.grad for k, p in network.named_parameters()}
        compared = 0
        for name, norm in norms.items():
            assert float(gradients[name].norm()) == pytest.approx(norm, rel=2e-2, abs=1e-5), name
            compared += 1
        assert compared == len(norms) > 50
        apart = []
        for key in [k for k in o if k.startswith("grad/")]:
            theirs = tensor(o[key])
            ours = gradients[key.removeprefix("grad/")]
            apart.append(float((ours - theirs).norm() / (theirs.norm() + 1e-6)))
            # a rectifier at its kink may fall the other way in one channel
            assert apart[-1] < 5e-2, key
        assert np.median(apart) < 2e-3
        # the original recomputes activations during the backward pass (checkpointing), which
        # updates its running statistics a second time, last image first
        with torch.no_grad():
            for side in ("query", "ref"):
                network(images[side])
        norm0 = network.extractor.decoder[0].layers[1]
        assert torch.allclose(norm0.running_mean, tensor(o["bn_after/decoder0_mean"]), atol=1e-4)
        assert torch.allclose(
            norm0.running_var, tensor(o["bn_after/decoder0_var"]), rtol=1e-3, atol=1e-4
        )
