#include "app/commands.h"

#include <array>

namespace warmpath::app {
namespace {

// The one list.
constexpr std::array kCommands = {
    Command{"demo", "a gateway, simulated engines and conversations: four policies compared", run_demo},
    Command{"load", "send a workload over HTTP and measure it", run_load},
    Command{"tokenize", "text or a chat on standard input -> token ids", run_tokenize},
    Command{"config check", "name every fault of a configuration file", run_config_check},
    Command{"serve", "the gateway: sends every request to the engine that holds its prefix", run_serve},
    Command{"engine", "one simulated vLLM-compatible engine: HTTP, KV events, metrics", run_engine},
    Command{"doctor", "compare a live engine with what the router computes, name the cause of a mismatch", run_doctor},
    Command{"config docs", "print the page of all options", run_config_docs},
    Command{"blocks", "token ids -> the block hashes that an engine computes", run_blocks},
    Command{"events decode", "show what a KV-event payload says", run_events_decode},
    Command{"index stat", "what a running gateway knows of each engine's KV cache", run_index_stat},
    Command{"index who", "which engines hold the prompt on standard input", run_index_who},
    Command{"index dump", "every block that is known of one engine", run_index_dump},
    Command{"simulate", "compare policies on one workload in virtual time", run_simulate},
    Command{"policies", "the policies that choose an engine, with their formulas", run_policies},
    Command{"completion", "print a completion script for bash, zsh or fish", run_completion},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

}  // namespace warmpath::app
