import { type Provider, read, write } from './shape.ts'

export const okta: Provider[] = [
  {
    name: 'Okta',
    path: '/oauth2/default',
    env: { OAUTH_AUDIENCE: 'api://default' },
    header: {},
    tokens: [
      {
        what: 'client credentials',
        payload: {
          ver: 1,
          jti: 'AT.0mP',
          aud: 'api://default',
          cid: '0oa1gjh63g214q0Hq0g4',
          scp: [read, write],
          sub: '0oa1gjh63g214q0Hq0g4',
        },
        name: '0oa1gjh63g214q0Hq0g4',
        scopes: [read, write],
      },
      {
        what: 'user',
        payload: {
          ver: 1,
          aud: 'api://default',
          cid: 'web',
          uid: '00u',
          scp: ['openid', read],
          sub: 'a@b.example',
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'token of the organization’s server, which is opaque by contract',
        header: { typ: 'application/okta-internal-at+jwt' },
        payload: { ver: 1, aud: 'api://default', cid: 'web', scp: [read], sub: 'a@b.example' },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { ver: 1, aud: 'api://default', sub: '00u', idp: '00o', amr: ['pwd'], at_hash: 'x' },
        scopes: 'refused',
      },
    ],
  },
]
