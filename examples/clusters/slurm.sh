#!/usr/bin/env bash
# A search as a Slurm job: sbatch examples/clusters/slurm.sh
# Where time ends first, Slurm puts it back into the queue, and the search goes on with its journal.
#SBATCH --job-name=hubmerge
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:INT@120
#SBATCH --open-mode=append
#SBATCH --output=hubmerge-%j.log
set -euo pipefail

# HF_TOKEN comes from your own environment or `hf auth login`; it stands in no file here.
trap 'kill -INT "$search"; wait "$search" || true; scontrol requeue "$SLURM_JOB_ID"; exit 0' INT
hubmerge evolve examples/searches/ps.yaml --out run --resume --mirror you/run --push you/evolved &
search=$!
wait "$search"
