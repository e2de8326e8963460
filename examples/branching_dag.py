"""A DAG that branches: one source, two functions that take its result, and one that takes both of theirs.

python examples/branching_dag.py                              on a node within this process
python examples/branching_dag.py --join tcp://HOST:PORT       on the cluster of that member
"""

import argparse
import asyncio

import handoff_actors as handoff


def numbers(values: list[int]) -> list[int]:
    return values


def add_one(values: list[int]) -> list[int]:
    return [value + 1 for value in values]


def double(values: list[int]) -> list[int]:
    return [value * 2 for value in values]


def sum_two_lists(left: list[int], right: list[int]) -> int:
    return sum(left) + sum(right)


def branching_dag() -> handoff.DAG:
    return (
        handoff.new()
        .add_function(handoff.Function(id="input_data", args=[], code=numbers, extra_args=[[10, 20, 30]]))
        .add_function(handoff.Function(id="pre_a", args=["input_data"], code=add_one, cost={"cpu": 2}))
        .add_function(handoff.Function(id="pre_b", args=["input_data"], code=double, cost={"cpu": 2}))
        .add_function(
            handoff.Function(id="agg", args=["pre_a", "pre_b"], code=sum_two_lists, cost={"cpu": 1})
        )
    )


async def main(seed: str | None) -> None:
    dag = branching_dag()
    dag.validate()
    print(dag.to_mermaid())
    if seed is None:
        await handoff.register_local_node({"cpu": 4, "memory": 8000})
    else:
        await handoff.connect([seed])
    run = await handoff.execute_distributed(dag)
    print(f"agg = {run.results['agg']}")
    for function_id, node in run.allocations.items():
        print(f"{function_id} ran on {node}")
    await handoff.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the branching DAG.")
    parser.add_argument("--join", metavar="ADDRESS", help="address of any member of the cluster to use")
    asyncio.run(main(parser.parse_args().join))
