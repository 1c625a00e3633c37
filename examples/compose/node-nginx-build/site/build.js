// Makes a page of each file in content/: node build.js TITLE
const fs = require('fs');
const path = require('path');
const { marked } = require('marked');

const title = process.argv[2];
fs.mkdirSync('public', { recursive: true });
for (const name of fs.readdirSync('content').sort()) {
  const body = marked.parse(fs.readFileSync(path.join('content', name), 'utf8'));
  const page = `<!doctype html>\n<meta charset="utf-8">\n<title>${title}</title>\n${body}`;
  const file = name.replace(/\.md$/, '.html');
  fs.writeFileSync(path.join('public', file), page);
  console.log(`${name} -> ${file}`);
}
