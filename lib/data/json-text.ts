// JSON files that other programs read are written back as they were: a number keeps its own spelling (500000.0 is no
// integer to Python), a key its place.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/**
 * The text of a JSON object with one member of it set to a string, and every other character as it was. The text must
 * be valid. A new member comes last.
 */
export function setMember(text: string, key: string, value: string): string {
  let depth = 0;
  let previous: RegExpExecArray | undefined; // the token before
  let isKeyed = false; // what follows is the value of the key
  let begin = -1; // of that value, while it is read
  let lastEnd = 0;
  const places: [begin: number, end: number][] = [];
  for (const token of text.matchAll(TOKEN)) {
    const [symbol] = token;
    const isEnd = depth === 1 && (symbol === ',' || symbol === '}');
    if (isEnd && begin >= 0) {
      places.push([begin, lastEnd]);
      begin = -1;
    }
    if (isKeyed) begin = token.index;
    isKeyed = depth === 1 && symbol === ':' && previous !== undefined && JSON.parse(previous[0]) === key;
    if (symbol === '{' || symbol === '[') depth += 1;
    if (symbol === '}' || symbol === ']') depth -= 1;
    if (depth > 0) lastEnd = token.index + symbol.length;
    previous = token;
  }
  const json = JSON.stringify(value);
  if (places.length === 0) {
    const isAlone = text.slice(0, lastEnd).trim() === '{';
    const indent = /^\s*\{(\s*)"/.exec(text)?.[1] ?? '\n  ';
    return `${text.slice(0, lastEnd)}${isAlone ? '' : ','}${indent}${JSON.stringify(key)}: ${json}${text.slice(lastEnd)}`;
  }
  return places.reduceRight((result, [from, to]) => result.slice(0, from) + json + result.slice(to), text);
}

/** An indented JSON text. Numbers under these keys are written as Python writes a float: whole ones with ".0". */
export function jsonText(value: object, floatKeys: readonly string[]): string {
  const whole = new RegExp(`^(\\s*"(?:${floatKeys.join('|')})": -?\\d+)(?=,?$)`, 'gm');
  return `${JSON.stringify(value, undefined, 2).replaceAll(whole, '$1.0')}\n`;
}
