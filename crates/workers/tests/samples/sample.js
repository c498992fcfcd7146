#!/usr/bin/env node
'use strict';
/**
 * A store, for tests.
 */
import { get } from './api.js'; // trailing

const url = "http://example.test/*"; /* one */ /* two */
/* three */ const pattern = /\/\* not a comment/;

function load(key, fallback = key || 'none') {
  if (!key) return fallback;
  else if (key === 'x') {
    return null;
  }
  return get(key)?.value ?? fallback;
}

function* keys(store) {
  for (const key in store) yield key;
  for (let i = 0; i < 3 && store; i++) yield i;
  do { break; } while (true);
}

const double = (n) => n * 2,
  pick = async function (list) {
    return list.filter((x) => x > 0 ? true : false);
  };

class Store extends Map {
  #cache = () => this.size || 0;
  static limit = 10;

  constructor() {
    super();
  }

  get full() { return this.size > Store.limit; }

  async save(key, value) {
    try {
      this.flag ||= value;
      await this.set(key, value);
    } catch (error) {
      switch (error.code) {
        case 1:
        case 2: return false;
        default: throw error;
      }
    } finally {
      this.done = function () { while (false) {} };
    }
  }
}

const Small = class { run() { return `
// in a template ${(() => 1)()}

`; } };

Store.prototype.drop = function named(key) {
  function inner() { return key ? 1 : 2; }
  return inner();
};

module.exports = {
  double,
  'quoted name': () => 1,
  short(x) { return x; },
  [Symbol.iterator]: function* () {},
};

[1, 2].forEach(function (x) { if (x) console.log(x); });

export default () => load('k');
