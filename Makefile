# make up      build, start control plane and agent, run a first container; Ctrl-C stops what it started
# make test    everything that is tested, with a real Engine
# make help    the rest
.PHONY: up test test-faults build release check format bench help clean

up:
	@scripts/up

test:
	@scripts/test

test-faults:
	@BERTH_SCHEDULES=10000 scripts/test --filter 'ReconcileProperties|WholeSystem|ExhaustiveUniverse|DataSafety|EngineFaults|Faults'

build:
	swift build $(BUILD_FLAGS)

release:
	@scripts/build-release

check:
	@scripts/check

format:
	swift format --in-place --recursive --parallel Package.swift Sources Tests

bench:
	@scripts/bench

clean:
	rm -rf .build .run

help:
	@echo "make up        build, start control plane and agent, run a first container; Ctrl-C stops what it started"
	@echo "make up ONCE=1 the same, but end after the listing, with the true exit code"
	@echo "make test      all tests, with a real Engine, registry and gVisor of their own"
	@echo "make test-faults  the faults at length: 10,000 schedules, and everything that is done to a real Engine"
	@echo "make release   .build/release/berth-server and .build/release/berth-agent"
	@echo "make check     formatting, import rules, scripts"
	@echo "make bench     figures of the README, measured here"
	@echo "make format    formats the sources"
