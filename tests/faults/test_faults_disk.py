"""The short form of the part `disk` of `bash run.sh faults`."""

import subprocess

import numpy as np
import pytest

from benchmarks.faults import disk, runs


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """A run that nothing happens to."""
    return runs.undisturbed("fraud", tmp_path_factory.mktemp("fraud"))


def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(expected):
    assert disk.run_with_damaged_checkpoint("fraud", expected, np.random.default_rng(0)) == []


def test_a_run_on_a_full_disk_goes_on_where_there_is_room_again(expected):
    if subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here, so no small disk")
    assert disk.in_namespace("full", "fraud", expected, 200_000 // disk.PAGE * disk.PAGE) == []
