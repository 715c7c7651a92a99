#!/usr/bin/env bash
# Installs this bundle on a machine without a network. In the unpacked bundle:
#
#   ./install.sh program [DIRECTORY]   the service as a program under systemd; default: /opt/literature
#   ./install.sh compose [DIRECTORY]   the composition with PostgreSQL and Redis; default: /opt/literature
#   ./install.sh check                 only compares the checksums
#
# Typed again with the next bundle it upgrades: settings, secrets and data stay as they are. Typed again with the bundle
# before, it goes back.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(<"$here/VERSION")
kind=${1:-}
target=${2:-/opt/literature}
# What is kept here is for the service's user alone.
umask 027

check() {
  cd "$here"
  sha256sum --check --quiet --strict SHA256SUMS || fail "the bundle is damaged: copy it again"
  local listed found
  listed=$(wc -l <SHA256SUMS)
  found=$(find . -type f ! -name SHA256SUMS | wc -l)
  [[ $listed -eq $found ]] || fail "the bundle has $found files and $listed checksums: unpack it again"
  echo "checked $listed files of $version"
}

random() {
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

# keep FILE TEXT: a file that is there stays as it is.
keep() {
  if [[ -e $1 ]]; then
    echo "kept      $1"
    return
  fi
  (umask 077 && printf '%s\n' "$2" >"$1.new")
  mv "$1.new" "$1"
  echo "made      $1"
}

program() {
  local release=$target/releases/$version
  mkdir -p "$target"/{files,secrets,releases}
  chmod 0700 "$target/secrets"
  rm -rf "$release.new"
  mkdir "$release.new"
  cp -R "$here"/bin "$here"/docs "$here"/deploy "$release.new/"
  # Each release has a directory of its own, and which one runs is one link.
  rm -rf "$release"
  mv "$release.new" "$release"
  ln -sfn "releases/$version" "$target/current.new"
  mv -T "$target/current.new" "$target/current"
  echo "installed $release"

  keep "$target/secrets/signing_key" "$(random)"
  keep "$target/secrets/admin_token" "$(random)"
  keep "$target/secrets/database_url" "postgresql://literature:change-me@127.0.0.1:5432/literature"
  keep "$target/literature.env" "$(printf '%s\n' \
    "# Every variable: $target/current/deploy/settings.example" \
    'APP_ENV=production' \
    'DEPLOYMENT_MODE=private' \
    'HOST=127.0.0.1' \
    'PORT=3001' \
    'METRICS_LISTEN=127.0.0.1:9464' \
    'BASE_URL=http://127.0.0.1:3001' \
    "DATABASE_URL_FILE=$target/secrets/database_url" \
    "STORAGE_LOCAL_DIR=$target/files" \
    "STORAGE_SIGNING_KEY_FILE=$target/secrets/signing_key" \
    "ADMIN_TOKEN_FILE=$target/secrets/admin_token")"
  keep "$target/literature.service" "$(printf '%s\n' \
    '[Unit]' \
    'Description=Literature screening' \
    'After=network.target postgresql.service' \
    '' \
    '[Service]' \
    'User=literature' \
    "EnvironmentFile=$target/literature.env" \
    "WorkingDirectory=$target" \
    "ExecStart=$target/current/bin/literature" \
    'Restart=on-failure' \
    'TimeoutStopSec=35' \
    'NoNewPrivileges=true' \
    'ProtectSystem=strict' \
    'ProtectHome=true' \
    'PrivateTmp=true' \
    "ReadWritePaths=$target/files" \
    '' \
    '[Install]' \
    'WantedBy=multi-user.target')"
  cat <<NEXT
next      the database's address into $target/secrets/database_url, the people's into BASE_URL of $target/literature.env
          a user: useradd --system --home-dir $target literature; chown -R literature: $target
          start: ln -s $target/literature.service /etc/systemd/system/; systemctl enable --now literature
NEXT
}

compose() {
  command -v docker >/dev/null || fail "docker is not in PATH"
  local image
  for image in "$here"/images/*; do
    [[ -e $image ]] || fail "this bundle was made without images: install it as a program, or make it with --image"
    docker load --input "$image"
  done
  mkdir -p "$target/deploy" "$target/scripts" "$target/bin"
  cp -R "$here/deploy/." "$target/deploy/"
  cp "$here"/scripts/* "$target/scripts/"
  cp "$here"/bin/* "$target/bin/"
  [[ -e $target/deploy/.env ]] || cp "$target/deploy/.env.example" "$target/deploy/.env"
  "$target/scripts/make-secrets.sh" "$target/deploy/secrets"
  echo "next      IMAGE and BASE_URL in $target/deploy/.env, then: cd $target/deploy && docker compose up --detach --wait"
}

case $kind in
  check) check ;;
  program | compose)
    check
    "$kind"
    ;;
  *)
    echo "Usage: ./install.sh program|compose [DIRECTORY], or ./install.sh check" >&2
    exit 2
    ;;
esac
