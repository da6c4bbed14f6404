# What a developer and CI run. Everything a target needs it installs itself where it can.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: demo test torture soak bench peers curves lint install-tools

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

## Hours of everyday load with outages; the report is target/soak/report.html.
soak:
	$(CARGO) build --release --locked --workspace
	./target/release/surgegate-loadtest run loadtest/scenarios/soak.yaml --report target/soak

## Requests per CPU-second beside a bare server, criterion benches, instruction counts.
bench: install-tools
	$(CARGO) build --release --locked --workspace
	scripts/bench.py --goals-only
	scripts/replicas.py
	$(CARGO) bench --locked --bench stages
	$(CARGO) bench --locked --bench beside
	scripts/instructions.py

## Beside nginx, HAProxy and Redpanda Connect, configured for the same job.
peers:
	$(CARGO) build --release --locked --workspace
	scripts/install-tools.sh peers
	scripts/peers.py

## How cost grows with connections, keys, bodies, integrations and what waits; plots under docs/performance/.
curves:
	$(CARGO) build --release --locked --workspace
	scripts/curves.py

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --locked --no-default-features --bin surgegate -- --deny warnings
	scripts/deny.sh

install-tools:
	scripts/install-tools.sh
