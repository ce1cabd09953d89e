/**
 * A value of a data file that no JSON value equals: a date, bytes, a number that no double holds. It is carried along
 * and refused where it is used, so that columns which nobody asks for disturb nobody.
 */
export class ForeignValue {
  /** What the file says that it is: "timestamp", "int64", "number", ... */
  readonly type: string;
  /** For messages; of numbers the exact decimal text. */
  readonly text: string;

  constructor(type: string, text: string) {
    this.type = type;
    this.text = text;
  }

  /** A whole or decimal number, whose `text` may stand for it where a text is wanted. */
  get isExactNumber(): boolean {
    return /^-?\d+(\.\d+)?$/.test(this.text) && this.type !== 'date';
  }

  /** As messages quote it. */
  toJSON(): string {
    return `${this.type} ${this.text}`;
  }
}

/** A decimal text without what changes nothing: zeros at its ends, a sign of zero. */
function plainDecimal(text: string): string {
  const [, sign = '', whole = '', fraction = ''] = /^(-?)0*(\d*)(?:\.(\d*?)0*)?$/.exec(text) ?? [];
  const number = `${whole === '' ? '0' : whole}${fraction === '' ? '' : `.${fraction}`}`;
  return number === '0' ? '0' : sign + number;
}

/** The number that a decimal text names, where a double writes the same text; else the text as a foreign value. */
export function exactNumber(type: string, text: string): number | ForeignValue {
  const plain = plainDecimal(text);
  const number = Number(plain);
  return String(number) === plain ? number : new ForeignValue(type, plain);
}
