#!/usr/bin/env bash
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# package-run.sh [--lab]: build the Galaxy tarball, look into it, install it into an empty directory, and from a copy of
# inventories/ elsewhere run its playbooks by name: ascend.vllm.plan, or with --lab ascend.vllm.site on the running pair of
# emulated nodes. The checkout is out of Ansible's reach while they run.
# shellcheck disable=SC2154 # top, tools and scratch are set by common.sh, which ansible-test's shellcheck does not follow
set -eu
lab=
case "${1:-}" in '') ;; --lab) lab=1 ;; *) echo "usage: package-run.sh [--lab]" >&2 && exit 2 ;; esac
# Also run from within molecule: its settings, such as a path of collections, must not reach these runs.
for name in $(compgen -e | grep -E '^(ANSIBLE|MOLECULE)_' || true); do unset "$name"; done
. "$(dirname "$0")/common.sh"
make_scratch
mkdir -p "$scratch/collections/ansible_collections" "$scratch/build"

echo "package: building"
ansible-galaxy collection build --output-path "$scratch/build" .
tarball=$(echo "$scratch"/build/ascend-vllm-*.tar.gz)
python "$tools/check_tarball.py" "$tarball"

echo "package: installing $(basename "$tarball") into an empty directory"
for from in .venv/lib/python3*/site-packages/ansible_collections/*/; do
  case "$from" in */ascend/) ;; *) cp -r "$from" "$scratch/collections/ansible_collections/" ;; esac
done
export ANSIBLE_COLLECTIONS_PATH="$scratch/collections" ANSIBLE_COLLECTIONS_SCAN_SYS_PATH=false
# Offline, but with its dependencies resolved against what is installed: galaxy.yml must not ask for more than we test with.
ansible-galaxy collection install --offline "$tarball" -p "$scratch/collections"

mkdir "$scratch/site"
cp -r inventories "$scratch/site/"
cd "$scratch/site/inventories"
echo "package: ascend.vllm.plan by name"
ansible-playbook ascend.vllm.plan -i a2_pair -e "plan_file=$scratch/plan.json"
python "$tools/check_plan.py" "$scratch/plan.json"
if [ -n "$lab" ]; then
  echo "package: ascend.vllm.site by name on the emulated pair"
  ansible-playbook ascend.vllm.site -i a2_pair -e "@$("$top/tests/lab/lab" vars)"
fi
echo "package: the tarball is complete and works from anywhere"
