#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take backends out of a proxy that runs, and put them in again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_backends
short_description: Take backends out of a proxy that runs, and put them in again
description:
  - With C(state=absent) the router sends no new request to the backends. Requests that they have go on; the module waits for them as long as O(wait_s)
    says. The router tries a request again elsewhere that finds a backend gone, so that none fails.
  - With C(state=present) each backend has to answer C(/health) first, for which the module waits as long as O(wait_s) says.
  - In front of prefill and decode (O(mode=pd)) no proxy takes a backend back while it runs. Then nothing is put in, and RV(restart) says that the
    proxy has to be started anew.
  - After a change the router's own list is read, and the module fails unless it is as wanted.
  - A router that nobody has started yet is no failure, because nobody is sent anywhere by it; RV(answers) is false then.
  - The list is the running router's. A router that is started anew has the backends of its command line again.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  url:
    description: Base URL of the router.
    type: str
    required: true
  kind:
    description: Which proxy it is.
    type: str
    choices: [vllm-router, vllm-ascend]
    default: vllm-router
  mode:
    description: V(replicas) of one model are behind it, or the ranks of prefill and decode groups, V(pd).
    type: str
    choices: [replicas, pd]
    default: replicas
  fresh:
    description: Whether the backends were started anew, with O(mode=pd) and C(state=present). vllm-ascend's proxy does not tell whether it has let go of one.
    type: bool
    default: false
  backends:
    description: Base URLs of the backends, as the router was given them.
    type: list
    elements: str
    default: []
  state:
    description: V(present) puts them in, V(absent) takes them out. Without it the module only says which there are.
    type: str
    choices: [present, absent]
  api_key:
    description: API key of router and backends.
    type: str
  wait_s:
    description: >-
      Seconds to wait at most, with C(state=absent) until no request of the backends is computed or waits (their own numbers, vLLM's metrics), with
      C(state=present) until they answer.
    type: float
    default: 0
  settle_s:
    description: Seconds after a backend was taken out in which a request arrives there that was given to it before.
    type: float
    default: 1
attributes:
  check_mode:
    support: full
    description: Says whether the list would change.
  diff_mode:
    support: none
    description: RV(up), RV(down) and RV(other) are the list.
  platform:
    support: full
    platforms: posix
    description: Hosts that reach the router.
"""

EXAMPLES = r"""
- name: Send no new request to one replica
  ascend.vllm.proxy_backends:
    url: http://198.51.100.11:1999
    backends: [http://198.51.100.13:8000]
    state: absent
    wait_s: 300

- name: Put it in again
  ascend.vllm.proxy_backends:
    url: http://198.51.100.11:1999
    backends: [http://198.51.100.13:8000]
    state: present
    wait_s: 30
"""

RETURN = r"""
answers:
  description: Whether a router listens there.
  returned: success
  type: bool
restart:
  description: Whether the proxy has to be started anew to have the backends again.
  returned: success
  type: bool
error:
  description: Why it does not answer, or null.
  returned: success
  type: str
up:
  description: Those of the backends that the router has and takes for healthy.
  returned: success
  type: list
  elements: str
down:
  description: Those that it has and takes for unhealthy.
  returned: success
  type: list
  elements: str
missing:
  description: Those that it does not have.
  returned: success
  type: list
  elements: str
other:
  description: Backends that it has beside these.
  returned: success
  type: list
  elements: str
requests:
  description: With C(state=absent) and O(wait_s), by backend C(running) and C(waiting) as it counted them last, null where it did not say.
  returned: success
  type: dict
  sample: {"http://198.51.100.13:8000": {"running": 0, "waiting": 0}}
drained:
  description: Whether no request is left on any of the backends; null where nobody waited for that.
  returned: success
  type: bool
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import plain_http, quiet
from ansible_collections.ascend.vllm.plugins.module_utils.proxy_router import KINDS, RouterError, compare, is_refused, running, unreachable
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

LOOK_S = 0.5
#: Seconds for the router's own look at a backend that answered this node a moment ago.
ADD_S = 15.0
#: What there is to return of a proxy that nobody has started.
NOTHING = {"changed": False, "answers": False, "restart": False, "error": None, "requests": {}, "drained": None}


class NotYet(Exception):
    """A backend does not answer, so that it is not put in; the text says which and why."""


def wait_for(backends, wait_s, clock=time.monotonic, pause=time.sleep):
    """Return when every backend answers; raise NotYet when the time is over."""
    end = clock() + wait_s
    while True:
        silent = unreachable(backends)
        if not silent:
            return
        if clock() + LOOK_S > end:
            raise NotYet("; ".join("%s: %s" % (backend, why) for backend, why in sorted(silent.items())))
        pause(LOOK_S)


def drain(backends, api_key, wait_s, clock=time.monotonic):
    """Wait until the backends have no request; return (requests by backend, whether none is left on any)."""
    end, requests, ended = clock() + wait_s, {}, []
    for backend in backends:
        found, dummy, drained = quiet.watch(Api(backend, api_key), max(end - clock(), 0))
        requests[backend] = found or None
        ended.append(drained)
    return requests, all(ended)


def change(given, check_mode):
    """Change the router's list; see RETURN for the result, which has C(changed), too."""
    wanted, state, pd = given["backends"], given["state"], given["mode"] == "pd"
    kind, router, workers = running(given)
    result = dict(NOTHING, answers=True, **compare(wanted, workers))
    todo = {None: [], "present": result["missing"], "absent": result["up"] + result["down"]}[state]
    if kind != given["kind"] and state == "present":
        # Another proxy will be started here, with all of its backends.
        return result
    result["restart"] = pd and state == "present" and (bool(todo) or (given["fresh"] and kind == "vllm-ascend"))
    result["changed"] = bool(todo) or result["restart"]
    if check_mode or state is None:
        return result
    if state == "present" and result["changed"]:
        wait_for(todo or wanted, given["wait_s"])
    if result["restart"]:
        return result
    for backend in todo:
        if state == "present":
            router.add(backend, ADD_S)
        else:
            router.remove(backend)
    result.update(compare(wanted, router.workers()))
    odd = result["missing"] if state == "present" else result["up"] + result["down"]
    # vllm-ascend's proxy lists one that it sends nobody to as long as there is any request.
    if odd and kind == "vllm-router":
        raise RouterError("%s was asked to make %s %s, which it says it did, but its list says otherwise" % (router.url, ", ".join(odd), state))
    if state == "absent":
        if todo:
            time.sleep(given["settle_s"])
        if given["wait_s"] > 0:
            result["requests"], result["drained"] = drain(wanted, given["api_key"], given["wait_s"])
    return result


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": list(KINDS), "default": "vllm-router"},
            "mode": {"type": "str", "choices": ["replicas", "pd"], "default": "replicas"},
            "fresh": {"type": "bool", "default": False},
            "backends": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"]},
            "api_key": {"type": "str", "no_log": True},
            "wait_s": {"type": "float", "default": 0},
            "settle_s": {"type": "float", "default": 1},
        },
        supports_check_mode=True,
    )
    given = module.params
    remedy = "Remedy: docker logs of the proxy's container, on the host that runs it."
    try:
        result = change(given, module.check_mode)
    except OSError as error:
        why = "%s: %s" % (given["url"], plain_http.reason(error))
        if not is_refused(error):
            module.fail_json(msg="the proxy does not answer: %s; wanted its list of backends. %s" % (why, remedy))
        result = dict(NOTHING, error=why, **compare(given["backends"], {}))
    except RouterError as error:
        module.fail_json(msg="%s. %s" % (error, remedy))
    except NotYet as error:
        module.fail_json(msg="found %s, as this host asks its /health; wanted HTTP 200 before the proxy %s sends requests there. "
                             "Remedy: see why that group does not answer: ascend.vllm.status." % (error, given["url"]))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
