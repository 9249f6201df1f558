// What one origin keeps in IndexedDB and in its private file system, in the form of Playwright's storageState.
// Called once per origin in an empty document of it, with what to take and how much; returns JSON text.
async ask => {
  const MAX_DEPTH = 32; // each level of a value takes up to three levels of JSON, and readers stop at 128
  const BATCH = 50;

  const ends = performance.now() + ask.milliseconds;
  const leftOut = [];
  let room = ask.bytes;

  // Thrown for what the format cannot hold; the message completes "left out: ...".
  class Inexpressible extends Error {}
  class TooLarge extends Error {
    constructor() {
      super(`larger than the ${room} bytes that are left for it`);
    }
  }

  const inTime = promise => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('the browser did not answer in time')), Math.max(0, ends - performance.now()));
    promise.then(resolve, reject);
  });
  const done = request => inTime(new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }));

  const sizeOf = text => new TextEncoder().encode(text).length;
  const base64 = bytes => {
    if (bytes.byteLength > room) throw new TooLarge();
    if (bytes.toBase64) return bytes.toBase64();
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
  };
  const arrays = {
    Int8Array: 'i8', Uint8Array: 'ui8', Uint8ClampedArray: 'ui8c', Int16Array: 'i16', Uint16Array: 'ui16',
    Int32Array: 'i32', Uint32Array: 'ui32', Float32Array: 'f32', Float64Array: 'f64', BigInt64Array: 'bi64',
    BigUint64Array: 'bui64',
  };

  // The two forms of a value: itself where JSON says all of it, else a description that Playwright understands.
  const express = (plainName, describedName, value) => {
    const seen = new Map();
    let plain = true;
    const special = description => {
      plain = false;
      return description;
    };
    const enter = value => {
      seen.set(value, seen.size + 1);
      return seen.size;
    };
    const describe = (value, depth) => {
      if (typeof value === 'string' || typeof value === 'boolean') return value;
      if (typeof value === 'number') {
        if (Object.is(value, -0)) return special({ v: '-0' });
        return Number.isFinite(value) ? value : special({ v: String(value) });
      }
      if (value === undefined) return special({ v: 'undefined' });
      if (typeof value === 'bigint') return special({ bi: String(value) });
      if (value === null) return { v: 'null' };
      if (seen.has(value)) return special({ ref: seen.get(value) });
      if (depth > MAX_DEPTH) throw new Inexpressible(`a value is nested deeper than ${MAX_DEPTH} levels`);
      const kind = Object.prototype.toString.call(value).slice(8, -1);
      if (kind in arrays) {
        const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
        return special({ ta: { b: base64(bytes), k: arrays[kind] } });
      }
      switch (kind) {
        case 'Array': {
          // A hole would be filled, and a length of 2^32 be walked through.
          if (Object.keys(value).length !== value.length) throw new Inexpressible('an array has holes');
          const id = enter(value);
          return { a: value.map(item => describe(item, depth + 1)), id };
        }
        case 'Object': {
          const id = enter(value);
          return { o: Object.keys(value).map(name => property(value, name, depth)), id };
        }
        case 'Map': {
          const id = enter(value);
          const m = Array.from(value, ([k, v]) => ({ k: describe(k, depth + 1), v: describe(v, depth + 1) }));
          return special({ m, id });
        }
        case 'Set': {
          const id = enter(value);
          return special({ s: Array.from(value, item => describe(item, depth + 1)), id });
        }
        case 'Date':
          if (Number.isNaN(value.getTime())) throw new Inexpressible('a date is invalid');
          return special({ d: value.toJSON() });
        case 'RegExp':
          return special({ r: { p: value.source, f: value.flags } });
        case 'Error':
          return special({ e: { n: value.name, m: value.message, s: value.stack ?? '' } });
        case 'ArrayBuffer':
          return special({ ab: { b: base64(new Uint8Array(value)) } });
        default:
          throw new Inexpressible(`a value is a ${kind}`);
      }
    };
    const property = (value, name, depth) => {
      if (name === '__proto__') throw new Inexpressible('a property is called __proto__');
      return { k: name, v: describe(value[name], depth + 1) };
    };
    const described = describe(value, 0);
    return plain ? { [plainName]: value } : { [describedName]: described };
  };

  const openDatabase = name => {
    const request = indexedDB.open(name);
    // It was deleted a moment ago, and must not come back empty.
    request.onupgradeneeded = () => request.transaction.abort();
    return done(request);
  };

  // The JSON texts of a store's records, and their size; read in pieces, so that a large store is not loaded whole.
  const recordsOf = async (store, taken) => {
    const records = [];
    let size = 0;
    let range = null;
    for (;;) {
      const keys = await done(store.getAllKeys(range, BATCH));
      const values = await done(store.getAll(range, BATCH));
      for (let at = 0; at < keys.length; at++) {
        const key = store.keyPath === null ? express('key', 'keyEncoded', keys[at]) : {};
        const text = JSON.stringify({ ...key, ...express('value', 'valueEncoded', values[at]) });
        size += sizeOf(text);
        if (taken + size > room) throw new TooLarge();
        records.push(text);
      }
      if (keys.length < BATCH) return { records, size };
      range = IDBKeyRange.lowerBound(keys[keys.length - 1], true);
    }
  };

  const keyPathOf = ({ keyPath }) => {
    if (keyPath === null) return {};
    return typeof keyPath === 'string' ? { keyPath } : { keyPathArray: Array.from(keyPath) };
  };

  const requireText = names => {
    if (!names.flat().every(name => name.isWellFormed())) throw new Inexpressible('a name has half a surrogate pair');
  };

  const takeStore = async (database, store, taken) => {
    const indexes = Array.from(store.indexNames, name => store.index(name));
    requireText([store.name, ...indexes.map(index => index.name)]);
    requireText([store, ...indexes].map(({ keyPath }) => keyPath ?? []));
    const shape = JSON.stringify({
      name: store.name,
      autoIncrement: store.autoIncrement,
      ...keyPathOf(store),
      indexes: indexes.map(index => ({
        name: index.name, ...keyPathOf(index), multiEntry: index.multiEntry, unique: index.unique,
      })),
    });
    let records = [];
    let size = 0;
    try {
      ({ records, size } = await recordsOf(store, taken));
    } catch (error) {
      if (!(error instanceof Inexpressible)) throw error;
      // The store stays, empty: the page expects it to be there.
      leftOut.push(`the records of store ${JSON.stringify(store.name)} in database ${JSON.stringify(database)}: ${error.message}`);
    }
    return { text: `${shape.slice(0, -1)},"records":[${records.join(',')}]}`, size: size + sizeOf(shape) };
  };

  const takeDatabase = async ({ name, version }) => {
    const database = await openDatabase(name);
    // Whoever wants to upgrade or delete it need not wait.
    database.onversionchange = () => database.close();
    try {
      const names = Array.from(database.objectStoreNames);
      const transaction = names.length > 0 && database.transaction(names, 'readonly');
      const stores = [];
      let size = 0;
      for (const name of names) {
        const store = await takeStore(database.name, transaction.objectStore(name), size);
        stores.push(store.text);
        size += store.size;
      }
      const text = `{"name":${JSON.stringify(name)},"version":${version},"stores":[${stores.join(',')}]}`;
      if (size > room) throw new TooLarge();
      return { text, size };
    } finally {
      database.close();
    }
  };

  // A database that is too large is left out whole: a page that finds half of it may take that for all there is.
  const takeDatabases = async () => {
    const taken = [];
    const databases = await inTime(indexedDB.databases());
    for (const database of databases.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      try {
        // Playwright itself cannot read such a one back.
        if (database.name === '') throw new Inexpressible('it has no name');
        requireText([database.name]);
        const { text, size } = await takeDatabase(database);
        taken.push(text);
        room -= size;
      } catch (error) {
        leftOut.push(`database ${JSON.stringify(database.name)}: ${error.message}`);
      }
    }
    return taken;
  };

  const takeDirectory = async (directory, prefix, entries) => {
    for (const [name, handle] of await inTime(Array.fromAsync(directory.entries()))) {
      requireText([name]);
      const path = prefix + name;
      if (handle.kind === 'directory') {
        entries.push({ path, type: 'directory' });
        await takeDirectory(handle, `${path}/`, entries);
        continue;
      }
      const file = await inTime(handle.getFile());
      if (file.size > room) throw new TooLarge();
      const content = base64(new Uint8Array(await inTime(file.arrayBuffer())));
      if (content.length > room) throw new TooLarge();
      room -= content.length;
      entries.push({ path, type: 'file', base64: content });
    }
    return entries;
  };

  const takeFiles = async () => {
    if (!navigator.storage?.getDirectory) return [];
    try {
      const entries = await takeDirectory(await inTime(navigator.storage.getDirectory()), '', []);
      return entries.map(entry => JSON.stringify(entry));
    } catch (error) {
      leftOut.push(`the private file system: ${error.message}`);
      return [];
    }
  };

  const databases = ask.indexedDb ? await takeDatabases() : [];
  const files = ask.opfs ? await takeFiles() : [];
  return `{"databases":[${databases.join(',')}],"files":[${files.join(',')}],"leftOut":${JSON.stringify(leftOut)}}`;
}
