"""Checkpoints of the original code: read without running anything, and what their tensors tell."""

import collections
import os
import pickle

import numpy as np
import old_format
import pytest
import torch
from conftest import darts
from test_cnn_network import REFERENCES, draw_again, network_of

from darts_cli import DartsError, legacy


def old_state(name):
    """A state dict as PyTorch before 0.4.1 had it: ordered, without counts of batches."""
    state, x = draw_again(REFERENCES[name])
    kept = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    return collections.OrderedDict(kept), x


def test_the_old_format_on_disk(tmp_path):
    state, _ = old_state("cifar_darts_v2")
    old_format.write(tmp_path / "cifar10_model.pt", state)
    found = legacy.read_checkpoint(tmp_path / "cifar10_model.pt")
    assert list(found) == list(state)
    assert all(torch.equal(tensor, state[key]) and tensor.device.type == "cpu" for key, tensor in found.items())

    whole = {"epoch": 250, "state_dict": state, "best_acc_top1": 73.3, "optimizer": {"state": {}, "param_groups": []}}
    old_format.write(tmp_path / "imagenet_model.pt", whole)
    found = legacy.read_checkpoint(tmp_path / "imagenet_model.pt")
    assert found["best_acc_top1"] == 73.3
    assert list(legacy.weights(found)) == list(state)


@pytest.mark.parametrize("legacy_zip", [False, True])
def test_formats_of_later_versions(tmp_path, legacy_zip):
    state, _ = old_state("cifar_darts_v1")
    torch.save({"state_dict": state}, tmp_path / "model.pt", _use_new_zipfile_serialization=legacy_zip)
    found = legacy.weights(legacy.read_checkpoint(tmp_path / "model.pt"))
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())


@pytest.mark.parametrize("name", REFERENCES)
def test_the_tensors_tell_the_sizes(name):
    reference, (state, _) = REFERENCES[name], old_state(name)
    assert legacy.sizes(state) == {
        "channels": 4,
        "num_classes": reference["num_classes"],
        "layers": 5,
        "auxiliary": reference["auxiliary"],
        "stem": reference["kind"],
    }


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_have_put_a_prefix(prefix):
    """DataParallel, torch.compile, Lightning, and two of them; all keys have it."""
    state, _ = old_state("imagenet_darts_v2")
    wrapped = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    assert list(legacy.weights({"state_dict": wrapped})) == list(state)
    one = {f"{prefix}weight": torch.zeros(1), "weight": torch.zeros(1)}
    assert legacy.weights(one) == one


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net", "network"])
@pytest.mark.parametrize("zipped", [False, True])
def test_what_training_scripts_write_around_the_weights(name, zipped, tmp_path):
    """Other tensors, numbers of NumPy, a scheduler; and the counters of a profiler among the weights."""
    state, _ = old_state("cifar_darts_v1")
    counted = state | {"total_ops": torch.zeros(1), "stem.0.total_params": torch.zeros(1)}
    numbers = {"best": np.float64(97.24), "loss": np.float32(0.5), "seen": np.int64(7), "last": np.bool_(True)}
    path = tmp_path / "model.pt"
    torch.save(numbers | {name: counted, "optimizer": {"state": {}}}, path, _use_new_zipfile_serialization=zipped)
    found = legacy.read_checkpoint(path)
    assert {key: found[key] for key in numbers} == numbers
    weights = legacy.weights(found)
    assert list(weights) == list(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in weights.items())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("value", [np.array(["a"], dtype=object)[:1], np.datetime64("2020-01-01"), np.str_("a")])
def test_of_numpy_nothing_but_numbers_is_read(value, zipped, tmp_path):
    torch.save({"best": value}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DartsError, match=r"refers to numpy\.|is no checkpoint, or is damaged"):
        legacy.read_checkpoint(tmp_path / "model.pt")


def test_numbers_in_another_byte_order_are_refused(tmp_path):
    """NumPy itself writes none; read as they stand, they would be other numbers."""
    for order, said in ((b"<", None), (b">", "is no checkpoint, or is damaged")):
        torch.save({"best": np.float64(97.5)}, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
        data = (tmp_path / "model.pt").read_bytes()
        assert data.count(b"X\x01\x00\x00\x00<") == 1
        (tmp_path / "model.pt").write_bytes(data.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00" + order))
        if said is None:
            assert legacy.read_checkpoint(tmp_path / "model.pt") == {"best": 97.5}
        else:
            with pytest.raises(DartsError, match=said):
                legacy.read_checkpoint(tmp_path / "model.pt")


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "weights": {"a": torch.zeros(1)}}, tmp_path / "model.pt")
    done = darts("eval", "--checkpoint", tmp_path / "model.pt")
    assert done.exit_code == 1
    names = "state_dict or model_state_dict or model or net or network"
    said = f"it holds no state dict, neither by itself nor as {names}, but epoch, weights"
    assert done.stderr == f"error: {tmp_path / 'model.pt'}: {said}\n"


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("new", [False, True])
def test_any_other_class_or_function_is_refused_by_name(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    state, _ = old_state("cifar_darts_v1")
    if new:
        torch.save({"state_dict": state, "extra": Payload()}, "model.pt")
    else:
        old_format.write("model.pt", {"state_dict": state, "extra": Payload()})
    with pytest.raises(DartsError, match=r"model\.pt: refers to (posix|nt)\.mkdir, which no checkpoint needs"):
        legacy.read_checkpoint("model.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_any_protocol_of_pickles_is_refused_by_name(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    state, _ = old_state("cifar_darts_v1")
    torch.save({"state_dict": state, "extra": Payload()}, "zip.pt", pickle_protocol=protocol)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(), protocol=protocol))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(DartsError, match=rf"{name}: refers to (posix|nt)\.mkdir, which no checkpoint needs"):
            legacy.read_checkpoint(name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("length", [0, 1, 20, 100, 3000, -4, -1000])
def test_a_file_that_is_cut_short(tmp_path, new, length):
    state, _ = old_state("cifar_darts_v1")
    path = tmp_path / "model.pt"
    torch.save(state, path) if new else old_format.write(path, state)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DartsError, match=r"model\.pt: (is no checkpoint, or is damaged|cannot be read as a checkpoint)"):
        legacy.read_checkpoint(path)


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(DartsError, match=r"absent\.pt: no such file"):
        legacy.read_checkpoint(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(DartsError, match=r"text\.pt: "):
        legacy.read_checkpoint(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DartsError, match=r"list\.pt: is not a checkpoint but a list"):
        legacy.read_checkpoint(tmp_path / "list.pt")
    for state in ({}, {"state_dict": 3}, {"epoch": 3}, {"state_dict": {0: torch.zeros(1)}}):
        with pytest.raises(DartsError, match="it holds no state dict"):
            legacy.weights(state)
    with pytest.raises(DartsError, match="no stem, no cells or no classifier"):
        legacy.sizes({"encoder.weight": torch.zeros(3, 3)})


@pytest.mark.parametrize("name", REFERENCES)
def test_every_key_has_its_original_name(name):
    network = network_of(REFERENCES[name])
    assert [legacy.original_key(network, key) for key in network.state_dict()] != list(network.state_dict())
    assert {legacy.original_key(network, key) for key in network.state_dict()} == set(REFERENCES[name]["keys"])


def test_what_is_no_tensor_is_named():
    network, (state, _) = network_of(REFERENCES["cifar_darts_v2"]), old_state("cifar_darts_v2")
    with pytest.raises(DartsError, match=r"not a tensor: stem\.0\.weight"):
        legacy.load_state(network, state | {"stem.0.weight": "x"})
