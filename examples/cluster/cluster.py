"""Dask workers from a batch system, for `hepfm-data resim --executor dask`. Stays until Ctrl-C, which ends the workers.

python cluster.py slurm --jobs 20 --cores 16 --queue normal --account my-project --walltime 08:00:00
python cluster.py htcondor --jobs 300
python cluster.py local --jobs 2        # the same on this machine, to try it

--print-job shows what would be submitted. Needs `pip install "hepfm[dask]"`.
"""

import argparse
import time
from contextlib import suppress

from dask.distributed import Client
from dask_jobqueue import HTCondorCluster, JobQueueCluster, SLURMCluster
from dask_jobqueue.local import LocalCluster


def make_cluster(arguments: argparse.Namespace) -> JobQueueCluster:
    """A scheduler here, and jobs of as many single-threaded workers as they have cores: threads share one Pythia."""
    settings = {
        "cores": arguments.cores,
        "processes": arguments.cores,
        "memory": f"{arguments.cores * arguments.memory} GB",
        "local_directory": arguments.local_directory,
        "interface": arguments.interface,
        "job_script_prologue": arguments.prologue,
    }
    match arguments.system:
        case "slurm":
            return SLURMCluster(
                queue=arguments.queue,
                account=arguments.account,
                walltime=arguments.walltime,
                log_directory="logs",
                **settings,
            )
        case "htcondor":
            # getenv: the credentials of an object store reach the workers too.
            directives = {"getenv": "AWS_*", "+MaxRuntime": seconds(arguments.walltime)}
            return HTCondorCluster(disk="2 GB", log_directory="logs", job_extra_directives=directives, **settings)
        case _:
            return LocalCluster(**settings)


def seconds(walltime: str) -> int:
    """Seconds of HH:MM:SS."""
    hours, minutes, rest = map(int, walltime.split(":"))
    return 3600 * hours + 60 * minutes + rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=("slurm", "htcondor", "local"))
    parser.add_argument("--jobs", type=int, default=2, help="how many to submit")
    parser.add_argument("--cores", type=int, default=1, help="cores a job; so many workers it has")
    parser.add_argument("--memory", type=int, default=2, help="GB a core")
    parser.add_argument("--walltime", default="08:00:00", help="HH:MM:SS of a job")
    parser.add_argument("--queue", help="Slurm's partition")
    parser.add_argument("--account", help="Slurm's account")
    parser.add_argument("--interface", help="network interface that jobs and this machine share, such as ib0")
    parser.add_argument("--local-directory", default="/tmp", help="of the node; Dask's own files, not the data")
    parser.add_argument("--prologue", action="append", default=[], help="shell command before the workers start")
    parser.add_argument("--print-job", action="store_true", help="show the job and submit nothing")
    arguments = parser.parse_args()
    with make_cluster(arguments) as cluster:
        if arguments.print_job:
            print(cluster.job_script())
            return
        cluster.scale(jobs=arguments.jobs)
        with Client(cluster) as client:
            wanted = arguments.jobs * arguments.cores
            # hepfm-data counts the workers when it starts, and hands out four tasks for each.
            client.wait_for_workers((wanted + 3) // 4)
            print(f"--executor dask --scheduler {cluster.scheduler_address}", flush=True)
            while True:
                time.sleep(30)
                cluster.scale(jobs=arguments.jobs)  # jobs of one worker that have ended are submitted again
                print(f"{len(client.nthreads())} of {wanted} workers", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
