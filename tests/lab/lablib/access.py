# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the controller reaches the lab: keys, known hosts, an ssh configuration, and the variables file for Ansible."""

from __future__ import annotations

import json
import subprocess

from lablib import shape
from lablib.places import CHECKOUT, LAB_SOURCE, RUN

SSH = RUN / "ssh"
KEY = SSH / "id_ed25519"
KNOWN_HOSTS = SSH / "known_hosts"
CONFIG = SSH / "config"
VARIABLES = RUN / "vars.yml"
USER = "ops"

# What the CPU engine needs besides the recipe; without the thread variables two engines on one machine fight for the same core.
ENGINE_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def make_key(path) -> str:
    """Makes an ed25519 key pair; returns the public half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text().strip()


def write_ssh(nodes: list[shape.Node], host_keys: dict[str, str]) -> None:
    """Writes known_hosts and the ssh configuration. ``host_keys`` maps a node's name to its public host key."""
    (SSH / "cp").mkdir(parents=True, exist_ok=True)
    KNOWN_HOSTS.write_text("".join(f"{node.name},{node.address} {' '.join(host_keys[node.name].split()[:2])}\n" for node in nodes))
    blocks = [f"Host {node.name} {node.address}\n    HostName {node.address}\n" for node in nodes]
    common = {
        "User": USER,
        "IdentityFile": KEY,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": KNOWN_HOSTS,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": f"{SSH}/cp/%C",
    }
    blocks.append("Host *\n" + "".join(f"    {key} {value}\n" for key, value in common.items()))
    CONFIG.write_text("\n".join(blocks))


def variables() -> dict:
    """What `-e @vars.yml` adds to a shipped inventory so that it drives the lab."""
    return {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": (
            f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={KNOWN_HOSTS} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        ),
        "ansible_host_key_checking": True,
        "ansible_control_path_dir": str(SSH / "cp"),
        "ansible_python_interpreter": "/usr/bin/python3",
        "vllm_model": "deepseek_r1_lab",
        "vllm_data_dirs": [str(LAB_SOURCE / "data")],
        "vllm_data_parallel_size": 2,
        "vllm_tensor_parallel_size": 1,
        "vllm_image_registries": [shape.REGISTRY],
        "vllm_weights_source": {"kind": "modelscope", "id": shape.MODEL_ID, "revision": "master", "endpoint": f"http://{shape.HUB}"},
        "vllm_extra_env": ENGINE_ENV,
    }


def write_variables() -> None:
    head = f"# The lab of {CHECKOUT}, for: ansible-playbook site.yml -i <inventory> -e @{VARIABLES}\n---\n"
    VARIABLES.write_text(head + "".join(f"{name}: {json.dumps(value)}\n" for name, value in variables().items()))


def close_connections() -> None:
    """Ends the ssh masters that still linger on the lab's control sockets."""
    for socket in (SSH / "cp").glob("*"):
        subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], capture_output=True, check=False)
