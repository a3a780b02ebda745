# What a person does with this project. `make help` lists it.
#
# Everything that is fetched or built goes below $(MILLSTREAM_CACHE), so that a second run is quick
# and a clone stays clean.

export MILLSTREAM_CACHE ?= $(HOME)/.cache/millstream

.DEFAULT_GOAL := help
.PHONY: help run cluster cluster-down test test-faults test-kubernetes test-simulation lint format bench crds clean-run

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run the demo: a million orders, validated and enriched, exactly once, on this machine
	@tools/demo.sh

cluster: ## Bring up a local Kubernetes with the operator, Kafka, S3 and the order job; as root
	@tools/playground.sh up

cluster-down: ## Stop and remove everything that `make cluster` made
	@tools/playground.sh down

test: ## Install what the tests need and run every suite but what takes minutes a test; ends with "N passed, N failed"
	@tools/test.sh

test-faults: ## Only the suites that are bad to real jobs, with those tests that take minutes each; an hour
	@tools/test.sh --test process --test crash --test faults

test-kubernetes: ## Run jobs on a real Kubernetes for half an hour; as root
	@tools/test-kubernetes.sh

test-simulation: ## Run jobs in a simulation under 3,000 fresh seeds, and look for every seeded bug
	@MILLSTREAM_SIMULATION_SEEDS=$${MILLSTREAM_SIMULATION_SEEDS:-3000} tools/test.sh --test simulation -- --skip extended_

lint: ## Check formatting, lints and the house rules
	@tools/lint.sh

format: ## Format the code
	cargo fmt --all

crds: ## Generate the custom resource definitions, and the chart's copy of them
	@tools/crds.sh

bench: ## Measure throughput beside the peers (long)
	@benches/run.sh

clean-run: ## Forget what the demo has written
	rm -rf .run/orders-local
