import pytest

from handoff_actors.deploy.slurm.offers import expected_offer, first_node
from handoff_actors.ids import Resources

DRY_RUN = "Job 1 to start at 2026-11-29T21:15:19 using 4 processors on nodes n1 in partition all"
NODE = "NodeName=n1 CPUTot=64 RealMemory=4000 AllocMem=100 FreeMem=17685"


def test_node_is_the_one_that_a_dry_run_names() -> None:
    assert first_node(DRY_RUN) == "n1"
    assert first_node(DRY_RUN.replace("n1", "n[1-2]")) is None
    assert first_node("something else") is None


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ([], {}),
        (["--mem=2G"], {"memory": 2048.0}),
        (["--mem", "512"], {"memory": 512.0}),
        (["--mem=500K"], {"memory": 1.0}),
        (["--mem=0"], {}),
        (["--mem-per-cpu=1000M"], {"memory": 4000.0}),
        (["--gres=gpu:2"], {"gpu": 2.0}),
        (["--gres=gpu:a100:4"], {"gpu": 4.0}),
        (["--gres=gpu"], {"gpu": 1.0}),
        (["--gres=gpu:a100"], {"gpu": 1.0}),
        (["--gres=craynetwork:1,gpu:3"], {"gpu": 3.0}),
        (["--gres=lustre:1"], {}),
        (["--gpus-per-node=a100:2"], {"gpu": 2.0}),
        (["-G", "2"], {"gpu": 2.0}),
        (["-G2", "-p", "gpu"], {"gpu": 2.0}),
        (["--mem"], {}),
    ],
)
def test_offer_is_what_the_options_ask_for(options: list[str], more: Resources) -> None:
    assert expected_offer(DRY_RUN, options, NODE) == {"cpu": 4.0, "memory": 4000.0} | more


def test_least_is_expected_of_an_answer_that_says_nothing() -> None:
    assert expected_offer("", [], "") == {"cpu": 1.0}
