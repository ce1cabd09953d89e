import { random } from '../texts.mjs';
import { ATOMS, FILTERS, FORMS, LOCALS, TESTS } from './grammar.mjs';
import { STATEMENTS, TEXTS } from './statements.mjs';

// Random templates, the same ones for the same seed.

const KINDS = [...'iifsssbllddu'];
const NAMES = ['x', 'y', 'acc', 'name', 'n', 'd', 'acc', 'lst'];
/** How often a value has another kind than the form asks for. */
const MIXED = 0.04;

export class Generator {
  #next;
  /** Whether the value stands within a statement, which may define names. */
  #isInside = false;

  constructor(seed) {
    this.#next = random(seed);
  }

  #below(count) {
    return Math.floor(this.#next() * count);
  }

  #pick(list) {
    return list[this.#below(list.length)];
  }

  /** One expression in an output, or a small template. */
  template() {
    this.#isInside = false;
    if (this.#next() < 0.5) return `{{ ${this.#value('a', 1 + this.#below(3))} }}`;
    this.#isInside = true;
    const count = 1 + this.#below(3);
    const statements = Array.from({ length: count }, () => this.#statement(2)).join('');
    return this.#next() < 0.5 ? this.#signed(statements) : statements;
  }

  #value(kind, depth) {
    let wanted = kind;
    if (
      kind === 'a' ||
      (kind !== 'k' && kind !== 'j' && kind !== 'c' && kind !== 'q' && this.#next() < MIXED)
    )
      wanted = this.#pick(KINDS);
    if (wanted === 'n') wanted = this.#pick(['i', 'f']);
    const forms = FORMS[wanted];
    if (depth <= 0 || forms === undefined || forms.length === 0) {
      const locals = this.#isInside && this.#next() < 0.15 ? LOCALS[wanted] : undefined;
      return this.#pick(locals ?? ATOMS[wanted]);
    }
    const text = this.#fill(this.#pick(forms), depth - 1);
    return this.#next() < 0.7 ? `(${text})` : text;
  }

  #fill(form, depth) {
    const name = this.#pick(NAMES);
    return form.replace(/\$(i10|[a-zA-Z])/g, (_, hole) => {
      switch (hole) {
        case 'i10':
          return String(this.#below(14) - 2);
        case 'W':
          return this.#pick(TESTS);
        case 't':
          return `'${this.#pick(TESTS)}'`;
        case 'F':
          return `'${this.#pick(FILTERS)}'`;
        case 'N':
          return name;
        case 'P':
          return this.#percentSpec();
        case 'M':
          return this.#formatSpec();
        case 'O':
          return `{{ ${this.#value('a', 1)} }}`;
        case 'T':
          return this.#pick(TEXTS);
        case 'S':
          return this.#body(depth);
        default:
          return this.#value(hole, this.#below(depth + 1));
      }
    });
  }

  #percentSpec() {
    const flags = Array.from({ length: this.#below(3) }, () => this.#pick([...'-#0 +'])).join('');
    const width = this.#pick(['', '', this.#below(15)]);
    const precision = this.#pick(['', '', '.', `.${this.#below(12)}`]);
    return `%${flags}${width}${precision}${this.#pick([...'diuoxXeEfFgGsrc'])}`;
  }

  #formatSpec() {
    const align = this.#pick(['', '', '', '<', '>', '^', '=', '*<', '0>', 'é^', '*=']);
    const sign = this.#pick(['', '', '+', '-', ' ']);
    const width = this.#pick(['', '', this.#below(15)]);
    const precision = this.#pick(['', '', '', `.${this.#below(12)}`]);
    const zero = this.#pick(['', '', '', '0']);
    const group = this.#pick(['', '', '', ',', '_']);
    return `{:${align}${sign}${this.#pick(['', '', '', '#'])}${zero}${width}${group}${precision}${this.#pick([...'', '', '', 'd', 'b', 'o', 'x', 'X', 'e', 'E', 'f', 'F', 'g', 'G', '%', 's'])}}`;
  }

  #body(depth) {
    const [before, after] = [this.#pick(TEXTS), this.#pick(TEXTS)];
    return (
      before +
      (depth > 0 ? this.#statement(depth - 1) : this.#pick(['', '{{ x }}', '{{ loop.index }}', '.'])) +
      after
    );
  }

  #statement(depth) {
    return this.#pick(TEXTS) + this.#fill(this.#pick(STATEMENTS), depth) + this.#pick(TEXTS);
  }

  /** Some tags with signs that take or keep white space. */
  #signed(template) {
    return template
      .replace(/\{[{%](?![-+])/g, (open) => open + (this.#next() < 0.2 ? this.#pick(['-', '+']) : ''))
      .replace(/(?<![-+]) ([%}]\})/g, (_, close) => (this.#next() < 0.2 ? ` -${close}` : ` ${close}`));
  }
}
