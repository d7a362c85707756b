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
INVENTORY = RUN / "inventory.yml"
MANAGEMENT_INVENTORY = RUN / "management.yml"
# The shipped deployment whose group variables fit, by generation.
_SHIPPED = {"a2": "a2_pair", "a3": "a3_single"}
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
    lines = []
    blocks = []
    for node in nodes:
        names = (node.name, node.address, node.management_name, node.management_address)
        lines.append(f"{','.join(names)} {' '.join(host_keys[node.name].split()[:2])}\n")
        for name, address in (names[:2], names[2:]):
            blocks.append(f"Host {name} {address}\n    HostName {address}\n")
    KNOWN_HOSTS.write_text("".join(lines))
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
        "eval_client_base_image": f"{shape.REGISTRY}/{shape.PYTHON_IMAGE}",
        "eval_client_index_url": f"http://{shape.HUB}/simple",
        "eval_client_trusted_hosts": [shape.HUB.partition(":")[0]],
    }


def write_variables() -> None:
    head = f"# The lab of {CHECKOUT}, for: ansible-playbook site.yml -i <inventory> -e @{VARIABLES}\n---\n"
    VARIABLES.write_text(head + "".join(f"{name}: {json.dumps(value)}\n" for name, value in variables().items()))


def inventory(lab: shape.Shape, management: bool = False) -> str:
    """An inventory of every node of the lab, as YAML; ``management``: reached at the management addresses."""
    hosts = {
        node.name: {"ansible_host": node.management_address if management else node.address, "vllm_local_ip": node.address} for node in lab.nodes
    }
    lines = ["---", f"# {lab}, reached over the {'management' if management else 'service'} network.", "vllm:", "  hosts:"]
    for name, own in hosts.items():
        lines += [f"    {name}:", *(f"      {key}: {value}" for key, value in own.items())]
    return "\n".join(lines) + "\n"


def write_inventories(lab: shape.Shape) -> None:
    """Writes both inventories, and beside them the group variables of the shipped deployment of this generation.

    One difference: reports go into the lab's own folder.
    """
    INVENTORY.write_text(inventory(lab))
    MANAGEMENT_INVENTORY.write_text(inventory(lab, management=True))
    shipped = (CHECKOUT / "inventories" / _SHIPPED[lab.generation] / "group_vars" / "vllm.yml").read_text()
    lines = [line for line in shipped.splitlines() if not line.startswith("vllm_report_dir:")]
    group_vars = RUN / "group_vars"
    group_vars.mkdir(exist_ok=True)
    (group_vars / "vllm.yml").write_text("\n".join([*lines, "", f"vllm_report_dir: {RUN / 'reports'}"]) + "\n")


def close_connections() -> None:
    """Ends the ssh masters that still linger on the lab's control sockets."""
    for socket in (SSH / "cp").glob("*"):
        subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], capture_output=True, check=False)
