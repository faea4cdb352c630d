// How the processes of a job find each other: rank 0 listens, all others connect to it and say who they are.
//
// Connections that are not of this job (port scanners, health checks, an earlier attempt) are closed and change
// nothing; they may stay silent as long as they like.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/launch/connection.h"

namespace msmoe::executor {

struct RendezvousOptions {
  int rank = 0, num_ranks = 1;
  std::string host = "127.0.0.1";  // of rank 0
  int port = 0;
  int listener = -1;  // of rank 0: a socket that listens on the port already and is taken over; -1: none
  std::string job;    // processes of other jobs are refused
  // Names and values, such as {"plan", "9f3c"}: the same on every rank, or none starts.
  std::vector<std::pair<std::string, std::string>> must_agree;
  std::chrono::milliseconds timeout{300'000};  // until all are there; and of each exchange
};

enum class ErrorKind : std::uint32_t { fault = 0, user = 1 };

// A UserError for the user's, else a std::runtime_error.
[[noreturn]] void throw_error(ErrorKind kind, const std::string& text);

// "rank 3", "ranks 3, 5 and 7", of many the first ten and how many more.
std::string name_ranks(const std::vector<int>& ranks);

// Payload of one rank in an exchange.
inline constexpr std::uint32_t kLongestOffer = std::uint32_t{1} << 20;

// Rank 0: the connections to all others, by rank; that of rank 0 is empty. Which ranks are missing at the time-out, or
// have ended meanwhile, is a std::runtime_error; what does not agree a UserError that names both ranks and values. The
// others are told the same.
std::vector<std::unique_ptr<Connection>> gather_ranks(const RendezvousOptions& options);

// All others: the connection to rank 0. Its errors, or a std::runtime_error with its address where it is not reached.
std::unique_ptr<Connection> join_rank_zero(const RendezvousOptions& options);

// Others wait so much longer than rank 0, to be told by it which ranks are missing.
inline constexpr std::chrono::seconds kGraceOfOthers{5};

}  // namespace msmoe::executor
