# `make` alone says what there is.
PARTS := tests/tools/run-parts

help: ## show this
	@sed -n 's/^\([a-z0-9_%-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## make .venv: Ansible, its tools and collections, pinned (quick when it is up to date)
	@tests/tools/setup 3.11

setup-312: ## make .venv312: the same for ansible-core 2.21, where a Python 3.12 runs
	@tests/tools/setup 3.12

lint: ## ansible-lint, yamllint, shellcheck
	@$(PARTS) setup lint

docs: ## documentation of plugins and roles, changelog fragments
	@$(PARTS) setup docs

sanity: ## ansible-test sanity
	@$(PARTS) setup sanity

units: ## unit tests and the repository's own consistency checks
	@$(PARTS) setup units

package: ## build the Galaxy tarball, install it into an empty directory, plan with it
	@$(PARTS) setup package

test-unit: ## the quick part: a few minutes once .venv is there
	@$(PARTS) setup units

test: ## every core part, cheapest first; needs root (it starts emulated nodes)
	@$(PARTS) core

test-all: ## every part
	@$(PARTS) all

test-%: ## one part or molecule scenario, for example test-a2_pair
	@$(PARTS) setup $*

bench: ## how long preflight takes on emulated nodes, how quick weights are verified and copied, and what day two costs, with ratios (root; about 80 minutes)
	@tests/tools/setup 3.11
	@tests/tools/bench weights
	@tests/tools/bench preflight
	@tests/tools/bench copies
	@tests/tools/bench lifecycle

demo: ## from nothing to a completion served by two emulated nodes (root on Debian 12)
	@tests/tools/demo.sh up

demo-down: ## remove the demo's nodes
	@tests/tools/demo.sh down

clean: ## remove the environments, logs and caches of this checkout
	rm -rf .venv .venv312 .venv38 .cache .ansible .hypothesis build tests/output

.PHONY: help setup setup-312 lint docs sanity units package test-unit test test-all bench demo demo-down clean
