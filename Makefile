# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# The official SDKs of tests/interop. oss2 needs the original crcmod, which collides with crcmod-plus.
OSS2_READY := .venv-oss2/.ready
# And ossfs needs an oss2 of its own.
OSSFS_READY := .venv-ossfs/.ready
NODE_READY := tests/interop/node/node_modules/.ready
# Without npm the tests of ali-oss skip themselves; only `make interop` insists.
NODE_MAYBE := $(if $(shell command -v npm),$(NODE_READY))
GO_READY   := tests/interop/drivers/go/bin/.ready
# And without go those of the SDKs for Go.
GO_MAYBE   := $(if $(shell command -v go),$(GO_READY))
JAVA_READY := tests/interop/java/target/.ready
# And without Maven those of the SDKs for Java.
JAVA_MAYBE := $(if $(and $(shell command -v mvn),$(shell command -v javac)),$(JAVA_READY))

.PHONY: help demo test lint bench interop model soak soak-service kill-append grafana prometheus clean .venv-oss2 .venv-ossfs node java go

help:
	@echo "make demo     follow a growing object, on this machine alone, in 20 s (FILE=... for your own file)"
	@echo "make test     all tests"
	@echo "make lint     ruff and mypy --strict"
	@echo "make interop  the tests with the official SDKs alone, none of which may be missing (needs npm, mvn and go)"
	@echo "make bench    the benchmarks of docs/benchmarks.md"
	@echo "make model    the random-action model test, ten million steps"
	@echo "make kill-append  kill oss-append -f 200 times while its file is rotated, race two writers, send 1 GiB"
	@echo "make grafana  write the dashboard of grafana/"
	@echo "make prometheus  get Prometheus into .prometheus, for the tests of grafana/, where there is none (needs apt)"
	@echo "make soak     kill everything again and again for 20 minutes (SOAK='--help' for its options)"
	@echo "make soak-service  the same for oss-tailer run, for an hour (SOAK='--help' for its options)"

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("oss-tail needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

.venv-%/.ready: tests/interop/requirements-%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.venv-oss2: $(OSS2_READY)

.venv-ossfs: $(OSSFS_READY)

$(NODE_READY): tests/interop/node/package.json
	cd tests/interop/node && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

node: $(NODE_READY)

$(JAVA_READY): tests/interop/java/pom.xml $(wildcard tests/interop/drivers/java/*.java)
	rm -rf $(@D)
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=target/lib
	javac -cp '$(@D)/lib/*' -d $(@D)/classes $(filter %.java,$^)
	@touch $@

java: $(JAVA_READY)

$(GO_READY): $(addprefix tests/interop/drivers/go/,go.mod go.sum) $(wildcard tests/interop/drivers/go/*/*.go)
	cd tests/interop/drivers/go && go build -o bin/ ./... github.com/aliyun/ossutil
	@touch $@

go: $(GO_READY)

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python demo.py $(if $(FILE),--file '$(FILE)')

# More workers than cores: most tests wait for a process or a clock.
test: $(READY) $(OSS2_READY) $(OSSFS_READY) $(NODE_MAYBE) $(JAVA_MAYBE) $(GO_MAYBE)
	$(BIN)/python -m pytest -q -n 4 --dist worksteal

interop: $(READY) $(OSS2_READY) $(OSSFS_READY) $(NODE_READY) $(JAVA_READY) $(GO_READY)
	OSS_TAIL_INTEROP=required $(BIN)/python -m pytest -q tests/interop

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

model: $(READY)
	MODEL_STEPS=10000000 $(BIN)/python -m pytest -q --timeout=0 tests/model

soak: $(READY)
	$(BIN)/python -u -m tests.soak $(SOAK)

soak-service: $(READY)
	$(BIN)/python -u -m tests.soak.service $(SOAK)

grafana:
	$(PYTHON) grafana/dashboard.py

# Unpacked, not installed: that needs no root.
prometheus:
	mkdir -p .prometheus
	cd .prometheus && apt-get download prometheus && dpkg -x prometheus_*.deb .
	.prometheus/usr/bin/prometheus --version

# Of 12,500 records in one to four at a time two writers make 10,000 appends.
kill-append: $(READY)
	KILLS=100 $(BIN)/python -m pytest -q tests/cli/test_append_follow.py -k killed
	RECORDS=12500 $(BIN)/python -m pytest -q tests/test_append.py -k two_writers
	MIBS=1024 $(BIN)/python -m pytest -q tests/cli/test_append_follow.py -k other_prints

# As after an installation by pip: where PYTHONDONTWRITEBYTECODE is set, each start would compile all modules anew.
bench: $(READY) $(OSS2_READY)
	$(BIN)/python -m compileall -q tailer
	.venv-oss2/bin/python -m pip install --quiet --disable-pip-version-check smart_open
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-* .prometheus tests/interop/node/node_modules tests/interop/drivers/go/bin tests/interop/java/target build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
