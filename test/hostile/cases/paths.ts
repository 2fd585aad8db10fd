import { type HostileCase, request } from '../case.ts'

const get = (path: string) => [request('GET', path)]

/** Paths, ids and queries. */
export const paths: HostileCase[] = [
  { name: 'out of the root', send: get('/../../../../etc/passwd'), answer: [404] },
  { name: 'out of the docs', send: get('/docs/static/../../package.json'), answer: [400, 404] },
  { name: 'out of the docs, encoded', send: get('/docs/static/..%2f..%2fpackage.json'), answer: [400, 404] },
  {
    name: 'out of the docs, encoded twice',
    send: get('/docs/static/%252e%252e%252fpackage.json'),
    answer: [404],
  },
  {
    name: 'out of the docs, by backslashes',
    send: get('/docs/static/..%5c..%5cpackage.json'),
    answer: [400, 404],
  },
  { name: 'a NUL in a file’s name', send: get('/docs/static/index.html%00.css'), answer: [400, 404] },
  { name: 'a NUL in the path', send: get('/v1/videos\0'), answer: [400] },
  { name: 'a path that cannot be decoded', send: get('/v1/videos/%'), answer: [400] },
  { name: 'half an escape', send: get('/v1/videos/%f'), answer: [400] },
  { name: 'an escape that is no UTF-8', send: get('/v1/videos/%ff%fe'), answer: [400] },
  { name: 'raw bytes in the path', send: get('/v1/videos/\xff\xfe'), answer: [400, 404] },
  { name: 'an id with a traversal', send: get('/v1/videos/..%2f..%2fetc%2fpasswd'), answer: [404] },
  { name: 'an id with a line end', send: get('/v1/videos/a%0d%0aset-cookie:%20a=b'), answer: [404] },
  { name: 'an id of NULs', send: get('/v1/videos/%00%00'), answer: [404] },
  { name: 'an id of SQL', send: get(`/v1/videos/'%20OR%20'1'='1`), answer: [404] },
  { name: 'the id __proto__', send: get('/v1/videos/__proto__'), answer: [404] },
  { name: 'the id constructor, and its info', send: get('/v1/videos/constructor/info'), answer: [404] },
  { name: 'an id of 5 KB', send: get(`/v1/videos/${'a'.repeat(5000)}`), answer: [400, 404, 414] },
  { name: 'an id of 150 characters', send: get(`/v1/videos/${'a'.repeat(150)}`), answer: [404] },
  { name: 'a problem called __proto__', send: get('/problems/__proto__'), answer: [404] },
  { name: 'a problem called toString', send: get('/problems/toString'), answer: [404] },
  {
    name: 'another server in the request line',
    send: get('http://169.254.169.254/latest/meta-data'),
    answer: [404],
  },
  { name: 'slashes without end', send: get('/'.repeat(5000)), answer: [404] },
  { name: 'a fragment', send: get('/v1/videos#x'), answer: [400, 404] },
  { name: '__proto__ in the query', send: get('/v1/videos?__proto__[admin]=1'), answer: [400] },
  { name: 'a limit of 1e9', send: get('/v1/videos?limit=1e9'), answer: [400] },
  { name: 'a limit of NaN', send: get('/v1/videos?limit=NaN'), answer: [400] },
  { name: 'two limits', send: get('/v1/videos?limit=1&limit=2'), answer: [400] },
  { name: 'a cursor of SQL', send: get('/v1/videos?cursor=%27%3b--'), answer: [400] },
  { name: 'a cursor that is no UTF-8', send: get('/v1/videos?cursor=_____w'), answer: [400] },
  { name: 'a thousand parameters', send: get(`/v1/videos?${'a=b&'.repeat(1000)}`), answer: [400] },
  { name: 'a reference of NULs', send: get('/v1/videos?reference=%00'), answer: [200] },
  { name: 'a reference that cannot be decoded', send: get('/v1/videos?reference=%ff%'), answer: [200, 400] },
]
