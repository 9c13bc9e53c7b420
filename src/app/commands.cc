#include "app/commands.h"

#include <array>

namespace warmpath::app {
namespace {

// The one list.
constexpr std::array kCommands = {
    Command{"completion", "print a completion script for bash, zsh or fish", run_completion},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

}  // namespace warmpath::app
