# How demo.sh prints, checks, starts and clears away. It is read by demo.sh.

# raise_curtain reads the demo's arguments, and makes what it needs: the programs, the folder
# that it works in, images, and settings.
raise_curtain() {
	test $# -ge 1 && test -x "$1/nabu" || { echo "usage: demo.sh PROGRAMS [openstack|curl]" >&2; exit 2; }
	PATH="$(cd "$1" && pwd):$PATH"
	command -v curl >/dev/null || { echo "make demo: there is no curl on this machine" >&2; exit 1; }
	width="$( (test -t 1 && tput cols) 2>/dev/null || echo 180)"
	forget_the_surroundings
	choose_clients "${2:-}"
	children=""
	exec 3>&2 # a signal may come while a command has the place of stderr
	folder="$(mktemp -d "${TMPDIR:-/tmp}/nabu-demo.XXXXXX")"
	trap clear_away EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	chmod 711 "$folder" # root's nabu runs PostgreSQL as somebody else
	cd "$folder"
	mkdir images
	head -c 1048576 /dev/urandom >images/disk.raw
	outside images >outside.log 2>&1 &
	children="$!"
	await "the web server outside" grep -q http outside.log
	outside="$(head -1 outside.log)"
	cat >nabu.yaml <<-END
		listen: 127.0.0.1:0
		log_format: text
		data_dir: $folder/data
		task_failures_to_user_messages: true
		import_allowed_hosts: 127.0.0.1
		import_allowed_ports: ${outside##*:}
	END
}

# forget_the_surroundings takes away settings of another nabu and another cloud, and a proxy in
# front of this machine's own addresses.
forget_the_surroundings() {
	local name
	for name in $(env | sed -n -e 's/^\(OS_[A-Za-z0-9_]*\)=.*/\1/p' -e 's/^\(NABU_[A-Za-z0-9_]*\)=.*/\1/p'); do
		test "$name" = NABU_PG_BIN || unset "$name"
	done
	export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
}

# choose_clients takes OpenStack's clients if all are there, and else curl.
choose_clients() {
	clients="$1"
	python="${PYTHON:-/usr/bin/python3}" # the one that Debian's clients are for
	if test -z "$clients"; then
		clients=curl
		if command -v openstack >/dev/null && command -v glance >/dev/null &&
			"$python" -c 'import glanceclient, novaclient, openstackclient, zaqarclient' 2>/dev/null; then
			clients=openstack
		fi
	fi
	test -r "$here/with-$clients.sh" || { echo "make demo: the clients are openstack or curl, not $clients" >&2; exit 2; }
	. "$here/with-$clients.sh"
}

# clear_away ends what was begun, and removes the folder.
clear_away() {
	local code=$? child
	trap - EXIT
	trap '' INT TERM HUP
	for child in $children; do kill "$child" 2>/dev/null || true; done
	for child in $children; do wait "$child" 2>/dev/null || true; done
	cd /
	rm -rf "$folder"
	case "$code" in
	0) ;;
	130 | 143) echo "make demo: stopped" >&3 ;;
	*) echo "make demo: FAILED" >&3 ;;
	esac
	exit "$code"
}

# lower_curtain stops nabu, and looks at how it ends.
lower_curtain() {
	run "kill $nabu_pid"
	code=0
	wait "$nabu_pid" || code=$?
	children=" $children "
	children="${children/ $nabu_pid / }"
	holds "nabu ends with code 0" test "$code" = 0
}

# title begins a chapter.
title() { printf '\n== %s\n' "$1"; }

# say tells something.
say() { printf '\n%s\n' "$1" | fold -s -w "$width"; }

# run prints a command and carries it out. Its output is printed, and kept in the file out.
run() {
	printf '$ %s\n' "$1"
	code=0
	eval "$1" >out 2>&1 || code=$?
	print_out
	test "$code" = 0 || fail "the command ended with code $code"
}

# begin prints a command and starts it beside the demo; with exec the process is the program's.
# Its output goes to the file NAME.log, the id of its process is in NAME_pid.
begin() {
	printf '$ %s &\n' "${2#exec }"
	eval "$2" >"$1.log" 2>&1 &
	eval "${1}_pid=$!"
	children="$children $!"
}

# strike_dead ends a process that was begun as a crash would. It is disowned before, or the
# shell would tell of its death too.
strike_dead() {
	disown "$1"
	children=" $children "
	children="${children/ $1 / }"
	run "kill -9 $1"
}

# result prints what a command has printed that was begun.
result() {
	cp "$1" out
	print_out
}

# The most that is printed of an output, in lines.
most_lines=40

# print_out prints the file out, without what is too long.
print_out() {
	local lines
	fold -w "$width" out >folded
	if test -n "$(tail -c 1 folded)"; then echo >>folded; fi
	lines="$(wc -l <folded)"
	head -n "$most_lines" folded
	if test "$lines" -gt "$most_lines"; then echo "… and $((lines - most_lines)) lines more"; fi
}

# shows checks that the last output has each of these patterns, and says so.
shows() {
	local what="$1" pattern
	shift
	for pattern; do grep -q -- "$pattern" out || fail "$what: $pattern is not there"; done
	echo "✓ $what"
}

# shows_not checks that the last output has not got a pattern.
shows_not() { ! grep -q -- "$1" out || fail "$1 is there"; }

# shows_nothing checks that the last output is empty.
shows_nothing() {
	test -z "$(tr -d '[:space:]' <out)" || fail "$1: there is something"
	echo "✓ $1"
}

# holds checks anything else.
holds() {
	local what="$1"
	shift
	"$@" || fail "$what: it does not hold"
	echo "✓ $what"
}

# a_minute_apart tells whether the last output has two events of a type, and a minute between.
a_minute_apart() {
	awk -v kind="$1" '
		$4 == kind { split($3, t, ":"); at[++n] = t[1] * 3600 + t[2] * 60 + t[3] }
		END { exit !(n == 2 && (at[2] - at[1] + 86400) % 86400 >= 59.9) }' out
}

# found is the first place in the last output that a pattern matches.
found() { grep -o -- "$1" out | head -1 | grep . || fail "$1 is not there"; }

# await waits until a command succeeds.
await() {
	local what="$1" until=$((SECONDS + 60))
	shift
	until "$@" >/dev/null 2>&1; do
		kill -0 "${nabu_pid:-$$}" 2>/dev/null || fail "$what: nabu has ended"
		test "$SECONDS" -lt "$until" || fail "$what: not within a minute"
		sleep 0.1
	done
}

# recorded tells whether nabu events shows a word.
recorded() {
	local word="$1"
	shift
	nabu events --config nabu.yaml -o json "$@" | grep -q "$word"
}

# fail ends the demo.
fail() {
	{
		printf '\nnot as it was said: %s\n' "$1"
		if test -s nabu.log; then echo "The last lines of nabu's log:" && tail -5 nabu.log; fi
	} >&2
	exit 1
}
