#!/usr/bin/env bash
# Makes the secrets of deploy/compose.yaml, each in a file of its own. A file that is there stays as it is, so that this
# may be typed again at any time.
#
#   make-secrets.sh [DIRECTORY]     default: deploy/secrets beside this script's directory
set -euo pipefail

directory=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../deploy" && pwd)/secrets}

# Containers see a file with the mode it has here and run as different users; the directory keeps everybody else out.
umask 077
mkdir -p "$directory"
chmod 0700 "$directory"

random() {
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

# keep NAME TEXT: writes the file at once or not at all.
keep() {
  local file=$directory/$1
  if [[ -e $file ]]; then
    echo "kept   $file"
    return
  fi
  printf '%s\n' "$2" >"$file.new"
  chmod 0444 "$file.new"
  mv "$file.new" "$file"
  echo "made   $file"
}

keep postgres_password "$(random)"
keep redis_password "$(random)"
keep signing_key "$(random)"
keep admin_token "$(random)"

# Derived: made anew only when the file is missing.
keep database_url "postgresql://literature:$(<"$directory/postgres_password")@postgres:5432/literature?sslmode=disable"
keep redis_url "redis://:$(<"$directory/redis_password")@redis:6379/0"
keep redis_conf "$(printf '%s\n' \
  "requirepass $(<"$directory/redis_password")" \
  'save ""' \
  'appendonly no' \
  'maxmemory 256mb' \
  'maxmemory-policy allkeys-lru')"
