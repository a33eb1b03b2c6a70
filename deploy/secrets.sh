#!/bin/sh
# Writes the passwords that docker-compose.yml mounts, keeping those that are there.
# A file has to be readable for the containers' users; the folder keeps other people out.
set -eu
cd "$(dirname "$0")/.."
umask 077
mkdir -p .secrets
echo '*' > .secrets/.gitignore

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
write() { # NAME CONTENT
    if [ ! -e ".secrets/$1" ]; then
        printf '%s' "$2" > ".secrets/$1"
    fi
    chmod 0444 ".secrets/$1"
}

write postgres_password "$(random)"
write database_password "$(random)"
write database_url "postgresql://rotina:$(cat .secrets/database_password)@postgres:5432/rotina"
# For an API that wants a key: put it into this file. vLLM from the profile gpu wants none.
write openai_api_key ''
echo "Secrets are in .secrets."
