# What a developer and CI run. Everything a target needs it installs itself where it can.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: demo test torture bench lint install-tools

## The proxy with a stub upstream and no configuration.
demo:
	$(CARGO) build --release --locked --bin surgegate
	./target/release/surgegate demo

## Everything CI runs.
test: install-tools lint
	scripts/test.sh

## Long runs against the promises; resumable. TORTURE=full for the figures of the promises.
torture: install-tools
	scripts/install-tools.sh deny
	scripts/deny.sh
	scripts/torture.sh

## Requests per CPU-second beside a bare server, criterion benches, instruction counts.
bench: install-tools
	$(CARGO) build --release --locked --workspace
	scripts/install-tools.sh bench
	scripts/bench.py --goals-only
	$(CARGO) bench --locked --bench stages
	scripts/instructions.py

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	scripts/deny.sh

install-tools:
	scripts/install-tools.sh
