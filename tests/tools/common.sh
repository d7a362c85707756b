# shellcheck shell=bash
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by the scripts beside it, after they have set -eu: the top directory, the environment that every one of them
# needs (so that each also runs alone), a scratch directory, and a copy of the checkout.
# shellcheck disable=SC2034 # the names set here are used by the scripts that source this file
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$tools/../.." && pwd)
cd "$top" || exit 1
case ":$PATH:" in *":$top/.venv/bin:"*) ;; *) export PATH="$top/.venv/bin:$PATH" ;; esac
export ANSIBLE_HOME="${ANSIBLE_HOME:-$top/.cache/ansible}" NO_COLOR=1
nothing_run=77

# The tests of the copies between nodes run a real sshd and rsync; only root can install them where they are missing.
need_ssh() {
  if [ -x /usr/sbin/sshd ] && command -v rsync >/dev/null && command -v rrsync >/dev/null && command -v ssh-keygen >/dev/null; then return; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    "$tools/apt-install" openssh-server openssh-client rsync >/dev/null && return
  fi
  echo "install rsync (3.2.4 or newer, with rrsync), openssh-server and openssh-client: unit tests need them" >&2
  return 1
}

# The test of the drain connects two network namespaces and asks the kernel's own packet filter, which takes root.
need_nft() {
  if command -v nft >/dev/null && command -v ip >/dev/null; then return; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    "$tools/apt-install" nftables iproute2 >/dev/null && return
  fi
  echo "install nftables and iproute2: unit tests need them" >&2
  return 1
}

# The tests of the monitoring files ask Prometheus' own promtool.
need_promtool() { "$tools/promtool" >/dev/null; }

# Make $scratch, removed at the end whatever happens.
make_scratch() {
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/ascend-vllm.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
}

# copy_checkout DIR: what git would commit (tracked files as they are now, new ones that are not ignored), and nothing else.
copy_checkout() {
  mkdir -p "$1"
  git -c safe.directory="$top" ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi; done |
    tar --null --no-recursion -T - -cf - | tar -xf - -C "$1"
}

# collection_tree DIR VENV: DIR/ansible_collections with a copy of the checkout as ascend.vllm and the venv's other collections.
collection_tree() {
  local from found
  copy_checkout "$1/ansible_collections/ascend/vllm"
  from=$(echo "$2"/lib/python3*/site-packages/ansible_collections)
  for found in "$from"/*/; do
    case "$found" in */ascend/) ;; *) ln -s "${found%/}" "$1/ansible_collections/" ;; esac
  done
}
