// Units at the edge: text with a unit in, a quantity out, and back for people to read.
//
// Prefixes: k M G T P (powers of 1000), Ki Mi Gi Ti (powers of 1024). B is a byte, b a bit. A NIC given as "400G"
// means 400 Gb/s, as networks are sold. Each parser throws UserError(file, place, ...) with what is allowed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/units.h"

namespace msmoe {

struct Place {
  std::string file;
  std::string key;
};

Bytes parse_bytes(std::string_view text, const Place& place);               // "80 GB", "79.1 GiB"
BytesPerSecond parse_bandwidth(std::string_view text, const Place& place);  // "450 GB/s", "400 Gb/s", "400G"
FlopsPerSecond parse_flop_rate(std::string_view text, const Place& place);  // "989 TFLOPS"
Duration parse_duration(std::string_view text, const Place& place);         // "3 us", "10 ms", "2 h"
std::int64_t parse_count(std::string_view text, const Place& place);        // "15T", "128k" (=131072), "720"
double parse_number(std::string_view text, const Place& place);             // "1.25"; finite

std::string format_bytes(Bytes bytes);              // "61.6 GiB"
std::string format_duration(Duration duration);     // "4.19 s", "318 us"
std::string format_count(double count);             // "1.41M", "352B"
std::string format_bandwidth(BytesPerSecond rate);  // "450 GB/s"

}  // namespace msmoe
