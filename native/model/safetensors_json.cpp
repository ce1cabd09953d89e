#include "model/safetensors_json.h"

namespace cream::safetensors {

namespace {

constexpr size_t kPrintedBytes = 80;

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace

// The well-formed sequences of the Unicode Standard, table 3-7: no overlong forms, surrogates or codes above
// 10FFFF.
size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if ((first & 0xF0) == 0xE0) {
    const bool in_range = first == 0xE0 ? byte(1) >= 0xA0 : first == 0xED ? byte(1) <= 0x9F : true;
    return in_range && continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool in_range = first == 0xF0 ? byte(1) >= 0x90 : first == 0xF4 ? byte(1) <= 0x8F : true;
    return in_range && continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

std::string printable(std::string_view text) {
  if (text.size() <= kPrintedBytes) return json_string(text);
  size_t cut = kPrintedBytes;
  while (cut > 0 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return json_string(text.substr(0, cut)) + "...";
}

void JsonReader::fail(const std::string& what) const {
  throw Error("the header is not valid: " + what + " at byte " + std::to_string(at_));
}

char JsonReader::peek() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
    ++at_;
  }
  return '\0';
}

void JsonReader::expect(char wanted) {
  if (peek() != wanted || at_ == text_.size()) fail(std::string("expected '") + wanted + "'");
  ++at_;
}

void JsonReader::end() {
  peek();
  if (at_ != text_.size()) fail("unexpected content after the header's object");
}

uint64_t JsonReader::number(uint64_t max) {
  const char first = peek();
  if (first < '0' || first > '9') fail("expected an unsigned integer");
  uint64_t value = 0;
  const size_t begin = at_;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
    const uint64_t digit = static_cast<uint64_t>(text_[at_] - '0');
    if (at_ > begin && value == 0) fail("an integer with a leading zero");
    if (__builtin_mul_overflow(value, uint64_t{10}, &value) || __builtin_add_overflow(value, digit, &value) ||
        value > max)
      fail("an integer that is too large");
    ++at_;
  }
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E'))
    fail("expected an unsigned integer");
  return value;
}

uint32_t JsonReader::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<uint32_t>(c - '0');
    } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
      value = value << 4 | static_cast<uint32_t>((c | 0x20) - 'a' + 10);
    } else {
      fail("a wrong \\u escape");
    }
  }
  return value;
}

// Behind the backslash.
void JsonReader::escape(std::string& out) {
  const char kind = at_ < text_.size() ? text_[at_++] : '\0';
  switch (kind) {
    case '"':
    case '\\':
    case '/':
      out.push_back(kind);
      return;
    case 'b':
      out.push_back('\b');
      return;
    case 'f':
      out.push_back('\f');
      return;
    case 'n':
      out.push_back('\n');
      return;
    case 'r':
      out.push_back('\r');
      return;
    case 't':
      out.push_back('\t');
      return;
    case 'u':
      break;
    default:
      fail("a wrong escape");
  }
  uint32_t code = hex4();
  if (code >= 0xDC00 && code <= 0xDFFF) fail("a lone surrogate");
  if (code >= 0xD800 && code <= 0xDBFF) {
    if (text_.substr(at_, 2) != "\\u") fail("a lone surrogate");
    at_ += 2;
    const uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("a lone surrogate");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(out, code);
}

std::string JsonReader::string(size_t max_bytes) {
  expect('"');
  std::string out;
  while (true) {
    if (at_ >= text_.size()) fail("a string without end");
    const uint8_t byte = static_cast<uint8_t>(text_[at_]);
    if (byte == '"') {
      ++at_;
      return out;
    }
    if (byte < 0x20) fail("a control character in a string");
    if (byte == '\\') {
      ++at_;
      escape(out);
    } else {
      const size_t length = utf8_length(text_.substr(at_, 4));
      if (length == 0) fail("invalid UTF-8");
      out.append(text_.substr(at_, length));
      at_ += length;
    }
    if (out.size() > max_bytes) fail("a string of more than " + std::to_string(max_bytes) + " bytes");
  }
}

std::string JsonReader::name() {
  std::string key = string(kMaxNameBytes);
  if (key.empty()) fail("an empty name");
  for (const char c : key)
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) fail("a control character in a name");
  return key;
}

}  // namespace cream::safetensors
