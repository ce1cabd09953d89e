// As much JSON as a safetensors header may have: objects, strings, arrays and unsigned integers, read in one
// pass without recursion of its own. Every malformed byte is an Error with its position.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/safetensors.h"

namespace cream::safetensors {

// Length of the valid UTF-8 sequence at the start of `text`; 0 when there is none.
size_t utf8_length(std::string_view text);

// `text` quoted for a message: at most 80 bytes, control characters escaped.
std::string printable(std::string_view text);

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  // Calls member(key) after each colon; it must read the value.
  template <typename Member>
  void object(const Member& member) {
    list('{', '}', [&] {
      const std::string key = name();
      expect(':');
      member(key);
    });
  }

  // Calls element() at each element; it must read it.
  template <typename Element>
  void array(const Element& element) {
    list('[', ']', element);
  }

  // At most max_bytes bytes after unescaping.
  std::string string(size_t max_bytes);

  // An integer in [0, max] without sign, fraction, exponent or leading zeros.
  uint64_t number(uint64_t max);

  // Only white space may follow.
  void end();

 private:
  template <typename Element>
  void list(char open, char close, const Element& element) {
    expect(open);
    if (peek() == close) {
      ++at_;
      return;
    }
    while (true) {
      element();
      if (peek() == close) {
        ++at_;
        return;
      }
      expect(',');
    }
  }

  std::string name();
  char peek();  // skips white space; '\0' at the end
  void expect(char wanted);
  uint32_t hex4();
  void escape(std::string& out);
  [[noreturn]] void fail(const std::string& what) const;

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace cream::safetensors
