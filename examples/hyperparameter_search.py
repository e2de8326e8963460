"""The best parameters of a classifier of handwritten digits, searched for in two ways.

1. scikit-learn's own GridSearchCV: one line sends its fits to the nodes.
2. A DAG of random candidates, stopped as soon as one of them is good enough. The digits are made once and mapped by
   all candidates on a node.

pip install '.[examples]'
python examples/hyperparameter_search.py                                  on this machine's cores
HANDOFF_SEEDS=tcp://HOST:PORT python examples/hyperparameter_search.py    on the cluster of that member

Nodes need scikit-learn.
"""

import argparse
import asyncio
from typing import Any

import joblib
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, ParameterSampler, cross_val_score
from sklearn.svm import SVC

import handoff_actors as handoff
import handoff_actors.integrations.joblib  # which makes "handoff" known to joblib
from handoff_actors.integrations.background import BackgroundSession

Parameters = dict[str, float]

GRID = {"C": [0.1, 1.0, 10.0], "gamma": [1e-3, 1e-2]}
CANDIDATES = {"C": [10.0**power for power in range(-3, 4)], "gamma": [10.0**power for power in range(-6, 1)]}


# --- Functions that run on the nodes


def digits(samples: int) -> tuple[NDArray[Any], NDArray[Any]]:
    images, labels = load_digits(return_X_y=True)
    return images[:samples], labels[:samples]


def accuracy(data: tuple[NDArray[Any], NDArray[Any]], parameters: Parameters) -> float:
    images, labels = data
    return float(cross_val_score(SVC(**parameters), images, labels, cv=3).mean())


# --- The app


def search_grid(session: BackgroundSession, samples: int) -> None:
    images, labels = digits(samples)
    with joblib.parallel_config("handoff", session=session):
        search = GridSearchCV(SVC(), GRID, cv=3, n_jobs=-1).fit(images, labels)
    print(f"the best of the grid: {search.best_params_}, {search.best_score_:.1%} right")


def search_dag(candidates: list[Parameters], samples: int) -> handoff.DAG:
    dag = handoff.new()
    data = dag.call(digits, samples, id="digits")
    for number, parameters in enumerate(candidates):
        dag.call(accuracy, data, parameters, id=number, cost={"cpu": 1})
    return dag


async def search_until(
    session: handoff.Session, target: float, candidates: list[Parameters], samples: int
) -> None:
    """Try candidates side by side, until the share of right answers of one reaches `target`, or all have been tried."""
    scores: dict[int, float] = {}

    def on_result(function_id: object, score: float) -> None:
        if isinstance(function_id, int):
            scores[function_id] = score
            if score >= target:
                # Running candidates end at once, and their cores are free.
                running.cancel()

    dag = search_dag(candidates, samples)
    running = asyncio.ensure_future(session.execute_distributed(dag, on_result=on_result))
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()  # raises the run's exception
    best = max(scores, key=scores.__getitem__)
    print(f"good enough: {candidates[best]}, {scores[best]:.1%} right")
    print(f"tried {len(scores)} of {len(candidates)} candidates")


def main(samples: int, target: float, count: int) -> None:
    candidates = list(ParameterSampler(CANDIDATES, count, random_state=1))
    # One session for both searches: its workers import scikit-learn once.
    with BackgroundSession() as background:
        search_grid(background, samples)
        background.run(lambda session: search_until(session, target, candidates, samples))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Search for the parameters of a classifier.")
    parser.add_argument("--samples", type=int, default=1000, help="number of digits, 1797 at most")
    parser.add_argument(
        "--target", type=float, default=0.93, help="the share of right answers that is good enough"
    )
    parser.add_argument("--candidates", type=int, default=40, help="most candidates to try")
    arguments = parser.parse_args()
    main(arguments.samples, arguments.target, arguments.candidates)
