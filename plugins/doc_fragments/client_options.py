# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that client_run and client_progress have in common (module_utils/client_runs.py, SPEC)."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
options:
  name:
    description: Name of the client's container. With O(kind=exec), of the serving container.
    type: str
    required: true
  group:
    description: Name of the group that the client asks. Containers are labelled with it, and no other group's are touched.
    type: str
    required: true
  kind:
    description:
      - With V(container), the client runs in a container of its own, on the network of the node. Without O(devices) it is not root, has no
        capabilities and cannot gain any.
      - With V(exec), it runs as a command in the serving container, which is left as it is.
    type: str
    choices: [container, exec]
    default: container
  run_id:
    description:
      - What this run is known by. A second call with the same one joins it, also when it has ended without anybody taking its results.
      - While the client of another run goes on, or that of the same run with other settings, this is refused.
    type: str
    required: true
  image:
    description: Image of the client, which is on the node. It has a C(python3).
    type: str
    default: ""
  argv:
    description: Command line of the client. No secrets.
    type: list
    elements: str
    required: true
  env:
    description: Environment of the client beside that of the image. No secrets. Proxy variables are always unset.
    type: dict
    default: {}
  secrets:
    description:
      - Variable of the environment -> path of a file on the node, whose text is its value. It is read inside, at the start, and appears
        neither in a command line nor in what the engine shows.
      - With O(kind=exec) the file has to be mounted into the serving container.
    type: dict
    default: {}
  mounts:
    description: Mounts, each C(source:destination) or C(source:destination:ro). Not with O(kind=exec).
    type: list
    elements: str
    default: []
  devices:
    description: Devices of the node, for a client that has an engine of its own. Not with O(kind=exec).
    type: list
    elements: str
    default: []
  shm_size:
    description: Size of C(/dev/shm), such as V(16g).
    type: str
    default: ""
  user:
    description:
      - User and group in numbers, as V(10001:10001). The default is the image's; where that is root and O(devices) is empty, V(10001:10001).
    type: str
    default: ""
  results_dir:
    description:
      - Folder for the results, the client's working directory. What an earlier client left there is removed; a folder with anything else in
        it is refused.
      - On the node, and mounted at the same path. With O(kind=exec), a folder below C(/tmp) in the serving container.
    type: path
    required: true
  collect:
    description:
      - Which files below O(results_dir) are returned. C(*) matches within a folder, C(**/) any number of folders.
    type: list
    elements: str
    default: []
  max_mb:
    description: How much of them is returned at most, in MiB. The others are named in RV(left_out).
    type: int
    default: 20
  limit_s:
    description: Seconds after which the client, and all that it started, is ended. That happens on the node, whether or not somebody watches.
    type: int
    required: true
  min_free_mb:
    description: MiB that have to be free at O(results_dir).
    type: int
    default: 1024
  slice_s:
    description: About how long a look is, in seconds.
    type: float
    default: 5.0
attributes:
  check_mode:
    support: full
    description: Runs nothing.
  diff_mode:
    support: none
    description: There is no text to compare.
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
"""
