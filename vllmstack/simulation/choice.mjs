// Answers each line of standard input, [policy, replicas, request], with the index that the gateway's choice.js chooses.
// The file is given as the first argument. As data: nginx's modules end in .js, which Node.js takes for CommonJS.

import fs from 'node:fs';

const source = fs.readFileSync(process.argv[2]).toString('base64');
const {choose} = (await import(`data:text/javascript;base64,${source}`)).default;
const buffer = Buffer.alloc(1 << 16);
let rest = '';

for (;;) {
    const length = fs.readSync(0, buffer);
    if (length === 0) {
        break;
    }
    const lines = (rest + buffer.toString('latin1', 0, length)).split('\n');
    rest = lines.pop();
    for (const line of lines) {
        const [policy, values, request] = JSON.parse(line);
        const replicas = values.map(
            ([inFlight, pending, matched], number) => ({number, inFlight, pending, matched, weight: 1}));
        fs.writeSync(1, `${choose(policy, replicas, request).index}\n`);
    }
}
