# Named checks: each says ok or FAIL and the next one runs, so that one defect does not hide another.
# Sourced by the scripts; ends each with `exit "$failed"`.

failed=0

# usage: check NAME COMMAND ARGUMENTS...
check() {
  local name=$1 status
  shift
  # Not as a condition: errexit would not hold in the command then.
  set +e
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if ((status == 0)); then
    echo "ok $name"
  else
    echo "FAIL $name: status $status"
    failed=1
  fi
}

# usage: want GOT EXPECTED
want() {
  [[ $1 == "$2" ]] || {
    echo "got ${1:0:500}, not $2" >&2
    return 1
  }
}

# usage: match GOT REGULAR_EXPRESSION
match() {
  [[ $1 =~ $2 ]] || {
    echo "got ${1:0:500}, which does not match $2" >&2
    return 1
  }
}

# usage: field NAME <JSON
field() {
  python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
