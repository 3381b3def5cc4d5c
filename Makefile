# `make image` and `make test` do everything on a fresh Debian 12; see README.md

PYTHON ?= python3
VENV ?= .venv
export GOFLAGS = -modcacherw -buildvcs=false
DECENTRALICE = $(VENV)/bin/dffml service decentralice
MELANGE_VERSION = v0.59.1
TOOLS = dffml_operations_decentralice/go/tools
GO_TOOLS = melange apko-tree

# What Debian has; the rest comes from PyPI (pyproject's extras) and go/tools
APT = bubblewrap ca-certificates dnf gnupg graphviz kmod openssh-client openssl ovmf \
	python3 python3-venv qemu-system-x86 qemu-utils rpm tar uidmap

.PHONY: image test test-all test-slow bench flow docs setup packages clean help

help: ## What can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

image: setup ## Build the operating system and boot it to a verdict
	@if $(DECENTRALICE) upstreams; then \
		$(DECENTRALICE) build; \
	else \
		echo "*** The upstreams do not answer: building from the MIRROR, an image" >&2; \
		echo "*** of Debian's packages in Wolfi's and Fedora's formats." >&2; \
		$(DECENTRALICE) build -overlays mirror; \
	fi

test: setup ## All tests but the slow ones
	$(VENV)/bin/pytest -m "not slow" tests

test-slow: setup ## Only the slow ones
	$(VENV)/bin/pytest -m slow tests

test-all: setup ## All tests
	$(VENV)/bin/pytest tests

bench: setup ## Print what steps cost, beside mkosi's figures
	$(VENV)/bin/python -m tests.benchmarks

flow: setup ## Write dataflows/*.yaml from flow.py
	$(VENV)/bin/dffml service dev export -configloader yaml \
		dffml_operations_decentralice.flow:FLOW > $@.new
	mv $@.new dataflows/os_decentralice.yaml
	$(VENV)/bin/dffml service dev export -configloader yaml \
		dffml_operations_decentralice.flow:IMAGES > $@.new
	mv $@.new dataflows/images.yaml

docs: setup ## Write dataflows/settings.md and the schema of overlays
	$(DECENTRALICE) settings > $@.new
	mv $@.new dataflows/settings.md
	$(DECENTRALICE) settings -schema > $@.new
	mv $@.new dffml_operations_decentralice/schemas/overlay.schema.json

setup: packages $(VENV)/bin/dffml $(addprefix $(VENV)/bin/,$(GO_TOOLS)) ## All that is needed

packages:
	@missing=; for name in $(APT); do \
		dpkg-query -W -f '$${db:Status-Status}' $$name 2> /dev/null \
			| grep -qx installed || missing="$$missing $$name"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "error: packages are missing:$$missing" >&2; \
		echo "remedy: as root: apt-get update && apt-get install -y --no-install-recommends$$missing" >&2; \
		exit 3; \
	fi; \
	echo "installing$$missing" >&2; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends $$missing

$(VENV)/bin/dffml: setup.cfg setup.py pyproject.toml entry_points.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -e '.[mirror,go,test]'
	touch $@

$(VENV)/bin/melange: VERSION = $(MELANGE_VERSION)
$(VENV)/bin/melange: PACKAGE = chainguard.dev/$*
$(VENV)/bin/apko-tree: PACKAGE = ./$*
$(VENV)/bin/apko-tree: $(wildcard $(TOOLS)/apko-tree/*.go)
# One after another: what one compiles, the next one has
$(VENV)/bin/apko-tree: | $(VENV)/bin/melange
$(GO_TOOLS:%=$(VENV)/bin/%): $(VENV)/bin/%: $(TOOLS)/go.sum | $(VENV)/bin/dffml
	@echo "compiling $* $(VERSION), a minute or two" >&2
	cd $(TOOLS) && GOBIN=$(abspath $(VENV))/bin GOTOOLCHAIN=local \
		$(abspath $(VENV))/bin/go install -mod=readonly -trimpath \
		-ldflags '-s -w -X sigs.k8s.io/release-utils/version.gitVersion=$(VERSION)' \
		$(PACKAGE)
	touch $@

clean: ## Remove what was set up here; the store stays
	rm -rf $(VENV) build dist *.egg-info
