#!/usr/bin/env bash
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# demo.sh [up|down]: on a bare Debian 12 as root, from nothing to a completion served by two emulated nodes; or remove it all.
set -eu
. "$(dirname "$0")/common.sh"
begun=$SECONDS

step() { printf '\n== %s (after %d s)\n' "$1" "$((SECONDS - begun))"; }

up() {
  step "1/3 Python packages and collections"
  tests/tools/setup 3.11
  step "2/3 Two emulated Ascend nodes, an image registry and a model hub (the first time builds images: several minutes)"
  # The pings of emulated NPUs at a tenth of the pace of real ones.
  tests/lab/lab up --nodes 2 --generation a2 --packet-interval 0.1
  vars=$(tests/lab/lab vars)
  step "3/3 cd inventories && ansible-playbook site.yml -i a2_pair -e @$vars"
  (cd inventories && ansible-playbook site.yml -i a2_pair -e "@$vars")
  step "Done: the completion above was served by both nodes"
  ssh_config=$(dirname "$vars")/ssh/config
  cat <<EOF

How to look further:
  ask it something       curl --noproxy '*' http://$(api_address)/v1/completions -H 'Content-Type: application/json' \\
                           -d '{"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 50}'
  run it again           make demo          (nothing is changed the second time)
  what was planned       cd inventories && ../.venv/bin/ansible-playbook ascend.vllm.plan -i a2_pair -e @$vars
  log in to a node       ssh -F $ssh_config a2-node0
  the engine's log       ssh -F $ssh_config a2-node0 sudo docker logs -f vllm-rank0
  the state of the NPUs  ssh -F $ssh_config a2-node0 sudo env \
                           LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64 /usr/local/bin/npu-smi info
  break something        tests/lab/lab faults
  remove it all          make demo-down
EOF
}

# The head's API, as HOST:PORT, from the shipped inventory.
api_address() {
  (cd inventories && ansible-inventory -i a2_pair --host a2-node0) |
    python -c 'import json, sys; host = json.load(sys.stdin); print("%s:%s" % (host.get("ansible_host", "a2-node0"), host.get("vllm_port", 8000)))'
}

down() {
  tests/lab/lab down
  echo "demo: the nodes, the registry and the hub are gone; what was built stays cached (tests/lab/lab --help)"
}

case "${1:-up}" in
  up) up ;;
  down) down ;;
  *) echo "usage: demo.sh [up|down]" >&2 && exit 2 ;;
esac
