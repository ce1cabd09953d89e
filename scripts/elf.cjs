'use strict';
// Reads from a 64-bit little-endian ELF file what the dynamic loader needs: machine, NEEDED, SONAME, run paths.

const fs = require('node:fs');

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT = { needed: 1n, strtab: 5n, strsz: 10n, soname: 14n, rpath: 15n, runpath: 29n };
const MACHINES = { 62: 'x64', 183: 'arm64' };

/** @returns {{arch: string, needed: string[], soname: string | undefined, runPaths: string[]}} */
function readElf(path) {
  const file = fs.openSync(path, 'r');
  try {
    const read = (offset, length) => {
      const buffer = Buffer.alloc(length);
      const count = fs.readSync(file, buffer, 0, length, Number(offset));
      if (count !== length) throw new Error(`${path} is cut short`);
      return buffer;
    };
    const header = read(0, 64);
    if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) {
      throw new Error(`${path} is not a 64-bit little-endian ELF file`);
    }
    const entrySize = header.readUInt16LE(54);
    const numEntries = header.readUInt16LE(56);
    const table = read(header.readBigUInt64LE(32), entrySize * numEntries);
    const segments = Array.from({ length: numEntries }, (_, i) => {
      const at = i * entrySize;
      return {
        type: table.readUInt32LE(at),
        offset: table.readBigUInt64LE(at + 8),
        address: table.readBigUInt64LE(at + 16),
        size: table.readBigUInt64LE(at + 32),
      };
    });
    const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
    const result = {
      arch: MACHINES[header.readUInt16LE(18)] ?? 'unknown',
      needed: [],
      soname: undefined,
      runPaths: [],
    };
    if (dynamic === undefined) return result;

    const entries = read(dynamic.offset, Number(dynamic.size));
    const tags = [];
    for (let at = 0; at + 16 <= entries.length; at += 16) {
      const tag = entries.readBigUInt64LE(at);
      if (tag === 0n) break;
      tags.push([tag, entries.readBigUInt64LE(at + 8)]);
    }
    const value = (wanted) => tags.find(([tag]) => tag === wanted)?.[1];
    const address = value(DT.strtab);
    const home = segments.find(
      ({ type, address: start, size }) => type === PT_LOAD && address >= start && address < start + size,
    );
    if (home === undefined) throw new Error(`${path} has no string table`);
    const strings = read(home.offset + (address - home.address), Number(value(DT.strsz)));
    const text = (at) => strings.toString('utf8', Number(at), strings.indexOf(0, Number(at)));

    for (const [tag, at] of tags) {
      if (tag === DT.needed) result.needed.push(text(at));
      else if (tag === DT.soname) result.soname = text(at);
      else if (tag === DT.rpath || tag === DT.runpath)
        result.runPaths.push(...text(at).split(':').filter(Boolean));
    }
    return result;
  } finally {
    fs.closeSync(file);
  }
}

module.exports = { readElf };
