# Every target stands on setup, which makes .venv and installs what is missing (as root, system packages too).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup check fix test plugin demo demo-cluster bench bench-quick chaos chaos-cluster picture record deb man \
	protos pins clean

BIN := .venv/bin

help:  ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup:  ## make .venv and install what is missing, system packages included
	@tools/setup

check: setup  ## lint, types, import contracts and the quick tests, which need no root
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q . || { echo "run \`make fix\`"; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >build/lint-imports.log || { cat build/lint-imports.log; exit 1; }
	@$(BIN)/pytest -q -n auto --hypothesis-profile=quick -m "not root and not engine and not long"

fix: setup  ## format the code and mend what ruff can
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

test: setup  ## everything: checks, kernel tests in namespaces, real Docker engines (root)
	@tools/test

plugin: setup  ## build/plugin, for `docker plugin create` (as root it is tried as well)
	@$(BIN)/python -m tools.plugin

demo: setup  ## the main job on a real Docker engine, in a sandbox of namespaces (root)
	@$(BIN)/python -m rig.demo

chaos: setup  ## random operations with kills on a real engine: SEED=… STEPS=… ENGINE=… (root)
	@$(BIN)/python -m rig.chaos $(SEED:%=--seed=%) $(STEPS:%=--steps=%) $(ENGINE:%=--engine=%)

chaos-cluster: setup  ## the same on three hosts with an etcd, with all that can happen to them: SEED=… STEPS=… (root)
	@$(BIN)/python -m rig.cluster_chaos $(SEED:%=--seed=%) $(STEPS:%=--steps=%)

picture: setup  ## docs/page.png: the page of a host with a real engine and traffic (root)
	@$(BIN)/python -m rig.picture

record: setup  ## record what real engines say, as fixtures of tests/wire (root)
	@$(BIN)/python -m rig.record

demo-cluster: setup  ## networks across three hosts with an etcd, in a sandbox of namespaces (root)
	@$(BIN)/python -m rig.demo_cluster

bench: setup  ## measure, and write the figures and the plots to docs/bench (root; ONLY="tunnel scale" ENGINE=28.5)
	@tools/setup bench
	@$(BIN)/python -m bench $(ONLY)

bench-quick: setup  ## compare what an endpoint costs with what was kept (root, a minute; KEEP=1 keeps the new)
	@$(BIN)/python -m bench.quick $(if $(KEEP),--keep)

deb: setup  ## build a Debian package into dist/
	@tools/deb

man: setup  ## write docs/mdnp.8 anew, from the commands and the tables of the documentation
	@PYTHONPATH=. $(BIN)/python -m tools.manual

protos:  ## make src/mdnp/cluster/rpc_pb2.py of rpc.proto (needs uv)
	cd src && uv run -q --no-project --with 'grpcio-tools<1.86' python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. \
		mdnp/cluster/rpc.proto

pins:  ## resolve requirements/*.txt anew (needs uv)
	@tools/pins

clean:  ## remove what was built here
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
