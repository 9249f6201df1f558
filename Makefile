# Everything a newcomer needs. Each target sets up what it needs itself.

.DEFAULT_GOAL := help
.PHONY: help demo test bench failover soak soak-reload fuzz fmt lint doc book

CARGO ?= cargo

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run a persistent Chromium behind witgate and say how to use it
	scripts/setup.sh demo
	$(CARGO) build --locked -p witgate
	@exec scripts/demo.sh

test: ## everything that has to hold: format, lints, unit and end-to-end tests, documentation
	scripts/setup.sh test
	$(MAKE) --no-print-directory lint doc
	$(CARGO) build --locked --workspace --bins --tests
	CARGO="$(CARGO)" scripts/test.sh

bench: ## measure beside nginx on this machine; BENCH="--only W1" for a part, BENCH=--write for the curves too
	scripts/setup.sh bench
	$(CARGO) build --locked --release -p witgate
	python3 scripts/bench $(BENCH)

failover: ## count what clients see while one nginx is killed, one hangs and one flaps
	scripts/setup.sh bench
	$(CARGO) build --locked --release -p witgate
	python3 scripts/failover.py

soak: ## twenty clients for five minutes while Chromium, witgate and clients are killed
	scripts/setup.sh test
	$(CARGO) build --locked --workspace --bins --tests
	WITGATE_SOAK_SECONDS=300 WITGATE_SOAK_CLIENTS=20 $(CARGO) test --locked --workspace --test soak -- --nocapture

soak-reload: ## a million requests while the configuration changes every few seconds; SOAK_REQUESTS=10000 for fewer
	$(CARGO) build --locked --workspace --bins --tests
	WITGATE_SOAK_REQUESTS=$(or $(SOAK_REQUESTS),1000000) $(CARGO) test --locked --workspace --test reload_soak -- --ignored --nocapture

fuzz: ## look for bytes that break a reader, a minute for each; FUZZ=paths for one, FUZZ_SECONDS=600 for longer
	CARGO="$(CARGO)" scripts/fuzz.sh $(FUZZ)

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## format and lints, nothing changed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

book: ## build the book of docs/ into target/book
	scripts/setup.sh book
	scripts/book.sh

doc: ## build the API documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
