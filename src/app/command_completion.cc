#include <cstdio>

#include "app/commands.h"
#include "config/flags.h"

namespace warmpath::app {
namespace {

// The scripts ask the program itself (--list-commands, COMMAND --list-options): they never go stale.
constexpr std::string_view kBash = R"(_warmpath() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' word words
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] && break
    command+="${command:+ }$word"
  done
  if [[ $current == -* ]]; then
    if [[ -z $command ]]; then words='--help --version'
    else words=$("${COMP_WORDS[0]}" $command --list-options 2>/dev/null); fi
  else
    words=$("${COMP_WORDS[0]}" --list-commands 2>/dev/null | awk -v c="$command" \
      'c == "" {print $1} c != "" && index($0, c " ") == 1 {print $NF}')
    [[ -n $words ]] || { COMPREPLY=($(compgen -f -- "$current")); return; }
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -F _warmpath warmpath
)";

constexpr std::string_view kZsh = R"(#compdef warmpath
autoload -U +X bashcompinit && bashcompinit
)";

constexpr std::string_view kFish = R"(function __warmpath_complete
  set -l words (commandline -opc)
  set -l command
  for word in $words[2..]
    string match -q -- '-*' $word; and break
    set -a command $word
  end
  if string match -q -- '-*' (commandline -ct)
    if test (count $command) -eq 0
      printf '%s\n' --help --version
    else
      $words[1] $command --list-options 2>/dev/null
    end
  else if test (count $command) -eq 0
    $words[1] --list-commands 2>/dev/null | string split -f1 ' ' | sort -u
  else
    $words[1] --list-commands 2>/dev/null | string replace -rf "^$command " ''
  end
end
complete -c warmpath -a '(__warmpath_complete)'
)";

}  // namespace

int run_completion(std::span<const std::string> args) {
  std::vector<std::string> shells;
  config::Flags flags("completion", "print a completion script for bash, zsh or fish");
  flags.positionals("bash|zsh|fish", "the shell", &shells, 1, 1);
  flags.example("source <(warmpath completion bash)", "in ~/.bashrc");
  flags.example("warmpath completion fish > ~/.config/fish/completions/warmpath.fish", "once");
  if (const auto code = flags.read(args)) return *code;
  if (shells[0] == "bash") return print(kBash) ? 0 : 1;
  if (shells[0] == "zsh") return print(std::string(kZsh) + std::string(kBash)) ? 0 : 1;
  if (shells[0] == "fish") return print(kFish) ? 0 : 1;
  return fail({ErrorKind::kInvalid, "no completion for the shell '" + shells[0] + "': bash, zsh and fish have one"});
}

}  // namespace warmpath::app
