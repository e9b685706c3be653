# make demo   the main job on the embedded default
# make test   everything: formatting, lints, licences, tests against the real binary
# make soak   what is killed and what fails, at length: half an hour on a machine that does nothing else
# make bench  speed and memory against named baselines

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
JUDGES ?= $(HOME)/.cache/openmediatrust/judges
SERVICES ?= $(HOME)/.cache/openmediatrust/services

.PHONY: demo test soak bench build tools fmt lint deny openapi judges unit

build:
	cargo build --workspace --release

demo: build
	@scripts/demo.sh $(CARGO_TARGET_DIR)/release/openmediatrust

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/check-layers.sh

deny:
	scripts/deny.sh

tools:
	scripts/tools.sh

# The independent validators that the tests put over what we produce.
judges:
	scripts/judges.sh $(JUDGES)

unit:
	OMT_JUDGES=$(JUDGES) scripts/test.sh $(SERVICES)

test: tools fmt lint deny judges unit

soak:
	scripts/soak.sh $(SERVICES)

openapi:
	cargo run -q -p openmediatrust -- openapi > openapi/openapi.json

bench: build
	bench/run.sh $(CARGO_TARGET_DIR)/release
