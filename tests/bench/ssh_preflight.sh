#!/usr/bin/env bash
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ssh_preflight.sh SSH_CONFIG NODE...: the limit of `make bench`: the calls of the NPU tools that preflight makes, by a bare shell on every
# node at once. No other question, no parsing, no judgement.
set -eu
config=$1
shift
for node in "$@"; do
  ssh -F "$config" "$node" sudo sh -s <<'ASK' >/dev/null &
lib=/usr/local/Ascend/driver/lib64
export LD_LIBRARY_PATH=$lib:$lib/common:$lib/driver
/usr/local/bin/npu-smi info
for npu in 0 1 2 3 4 5 6 7; do
  for question in ip link net_health netdetect gateway tls lldp vnic; do
    /usr/local/Ascend/driver/tools/hccn_tool -i $npu -$question -g
  done
done 2>&1
ASK
done
wait
