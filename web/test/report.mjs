/** Tells of each test in a line and counts them, in the words of cargo's tests, so that one reader understands both. */

const FILTERED = 'test name does not match pattern';

export class Report {
  passed = 0;
  failed = 0;
  skipped = 0;
  filtered = 0;
  #started = Date.now();
  #failures = [];

  /** Tells what became of a test; `skip` says why it was not run, `error` why it failed. */
  add(name, { skip, error, milliseconds = 0 } = {}) {
    if (skip === FILTERED) {
      this.filtered += 1;
    } else if (skip !== undefined && skip !== false) {
      this.skipped += 1;
      console.log(`test ${name} ... skipped: ${skip}`);
    } else if (error !== undefined) {
      this.failed += 1;
      this.#failures.push(`---- ${name} ----\n${error}`);
      console.log(`test ${name} ... FAILED`);
    } else {
      this.passed += 1;
      console.log(`test ${name} ... ok, ${(milliseconds / 1000).toFixed(1)} s`);
    }
  }

  /** Reads what node's test runner tells. */
  async follow(stream) {
    for await (const { type, data } of stream) {
      if (type === 'test:pass') {
        this.add(data.name, { skip: data.skip, milliseconds: data.details.duration_ms });
      } else if (type === 'test:fail') {
        this.add(data.name, { skip: data.skip, error: describe(data.details.error) });
      } else if (type === 'test:stdout' || type === 'test:stderr') {
        process.stdout.write(data.message);
      }
    }
  }

  /** The last line. Whether nothing has failed. */
  end() {
    this.#failures.forEach((failure) => console.log(`\n${failure}`));
    const verdict = this.failed === 0 ? 'ok' : 'FAILED';
    const counts = `${this.passed} passed; ${this.failed} failed; ${this.skipped} ignored; 0 measured; ${this.filtered} filtered out`;
    console.log(
      `\ntest result: ${verdict}. ${counts}; finished in ${((Date.now() - this.#started) / 1000).toFixed(2)}s`,
    );
    return this.failed === 0;
  }
}

/** The runner wraps what a test has thrown. */
function describe(error) {
  const cause = error?.cause ?? error;
  return cause?.stack ?? String(cause);
}
