"""A Ray cluster of two machines, both on this one, with a CPU each.

Prints its address. Then, for each process whose number it reads on stdin, it loses the machine that this process works for.
"""

import subprocess
import sys

from ray.cluster_utils import Cluster

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


def above(process):
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(process)], capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SOON})
    machines = {}
    for _ in range(2):
        machine = cluster.add_node(num_cpus=1)
        machines[machine.all_processes["raylet"][0].process.pid] = machine
    print(cluster.address, flush=True)
    for line in sys.stdin:
        process = int(line)
        while process not in machines:
            process = above(process)
        cluster.remove_node(machines.pop(process), allow_graceful=False)
    cluster.shutdown()
