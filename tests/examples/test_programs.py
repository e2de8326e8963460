"""Every example that ends by itself is run as its docstring says, in small: here, and on a cluster."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.daemons import Daemons
from tests.examples.programs import running

pytestmark = pytest.mark.processes

IMAGES = ("--count", "6", "--width", "400")
SEARCH = ("--samples", "300", "--candidates", "20", "--target", "0.8")
#: malloc may keep what is smaller than 32 MB.
ARRAYS = ("--megabytes", "40", "--rounds", "4")
#: Memory may grow by this much after the second round, when all workers have imported their modules: less than an array.
NOT_AN_ARRAY_MB = 35


def run(directory: Path, name: str, *arguments: str, **variables: str) -> str:
    with running(name, *arguments, directory=directory, **variables) as program:
        output = program.wait()
        # With the nodes of others, the program has no stores of its own to leave.
        assert program.owns_stores() or "HANDOFF_SEEDS" in variables
    return output


def numbers(pattern: str, output: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, output)]


def test_three_nodes_make_a_contact_sheet_of_pictures_that_stay_where_they_are(tmp_path: Path) -> None:
    output = run(tmp_path, "image_pipeline.py", *IMAGES)

    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (3 * 164, 2 * 124)
    assert re.findall(r"^(n\d): ", output, re.MULTILINE) == ["n1", "n2", "n3"]
    for step in ("photograph", "decode", "halve", "sharpen", "thumbnail"):
        assert sum(numbers(rf"(\d+) {step}\b", output)) == 6
    assert "the first one, sharpened: 200 x 150 pixels" in output
    [(count, stayed_mb)] = re.findall(r"stayed on the nodes: (\d+) values, (\d+) MB", output)
    [came_kb] = numbers(r"came here: (\d+) kB", output)
    assert int(count) >= 18
    assert came_kb * 5 < float(stayed_mb) * 1000


def test_the_search_stops_when_a_candidate_is_good_enough(tmp_path: Path) -> None:
    output = run(tmp_path, "hyperparameter_search.py", *SEARCH)

    assert re.search(r"the best of the grid: \{'C': .*, 'gamma': .*\}, \d\d\.\d% right", output)
    [share] = numbers(r"good enough: .* (\d\d\.\d)% right", output)
    assert share >= 80
    [tried] = numbers(r"tried (\d+) of 20", output)
    assert tried < 20


def test_memory_stays_flat_while_arrays_come_and_go(tmp_path: Path) -> None:
    output = run(tmp_path, "large_arrays.py", *ARRAYS)

    assert output.count("array 1: mean 1.0") == output.count("StoredValue(node=") == 4
    assert output.count("its mean is 0.000") == 4
    private_mb = numbers(r"memory: (\d+) MB private", output)
    assert len(private_mb) == 4
    assert private_mb[3] < private_mb[1] + NOT_AN_ARRAY_MB


def test_a_light_is_found_in_frames(tmp_path: Path) -> None:
    output = run(tmp_path, "frames.py", "--count", "40", "--width", "320")

    assert "found the light in 40 of 40 frames" in output
    [frames_per_s] = numbers(r"^(\d+) frames/s", output.splitlines()[-1])
    assert frames_per_s > 0


def test_a_file_is_added_up_while_it_is_read(tmp_path: Path) -> None:
    output = run(tmp_path, "clean_csv.py", "--rows", "20000")

    assert [line.split()[0] for line in output.splitlines()[:5]] == [
        "Accra",
        "Bogotá",
        "Kyoto",
        "Oslo",
        "Quito",
    ]
    assert "as it should be" in output
    assert "20,000 rows, " in output


def test_requests_that_come_together_are_answered_together(tmp_path: Path) -> None:
    output = run(tmp_path, "batched_service.py", "--clients", "16", "--requests", "10")

    assert "a wrong request: 422" in output
    assert "answered 160 of 160 requests" in output
    [mean] = numbers(r"requests per batch: ([\d.]+)", output)
    assert mean > 1


def test_examples_use_the_cluster_that_is_named(tmp_path: Path, daemons: Daemons) -> None:
    seeds = daemons.cluster(2, "--cpu", "1")[1].address

    images = run(tmp_path, "image_pipeline.py", *IMAGES, HANDOFF_SEEDS=seeds)
    arrays = run(tmp_path, "large_arrays.py", "--megabytes", "10", "--rounds", "1", HANDOFF_SEEDS=seeds)

    assert re.findall(r"^(n\d): ", images, re.MULTILINE) == ["n1", "n2"]
    assert re.search(r"StoredValue\(node='n[12]'", arrays)
