import { audience } from '../issuer-double.ts'
import { type Provider, read, write } from './shape.ts'

export const auth0: Provider[] = [
  {
    name: 'Auth0: scopes',
    path: '/',
    env: { OAUTH_AUDIENCE: audience },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'machine to machine',
        payload: {
          sub: 'aBcD1234@clients',
          aud: audience,
          azp: 'aBcD1234',
          scope: 'videos:read videos:write',
          gty: 'client-credentials',
        },
        name: 'aBcD1234',
        scopes: [read, write],
      },
      {
        what: 'user, with the audience of userinfo',
        payload: {
          sub: 'auth0|65',
          aud: [audience, 'https://tenant.eu.auth0.com/userinfo'],
          azp: 'web',
          scope: 'openid profile videos:read',
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'profile of RFC 9068',
        header: { typ: 'at+jwt' },
        payload: { sub: 'auth0|65', aud: audience, client_id: 'web', scope: read, jti: 'x' },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'ID token',
        payload: { sub: 'auth0|65', aud: audience, nonce: 'x', sid: 's' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Auth0: permissions (RBAC), and namespaced claims',
    path: '/',
    env: {
      OAUTH_AUDIENCE: audience,
      OAUTH_SCOPE_CLAIMS: 'permissions,https://cms.example/roles',
      OAUTH_SCOPE_MAP:
        'read:videos=videos:read, create:videos = videos:write , editor=videos:read+videos:write',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'permissions in the words of Auth0',
        payload: {
          sub: 'auth0|65',
          aud: audience,
          azp: 'web',
          scope: 'openid',
          permissions: ['read:videos'],
        },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'permissions named like scopes, and others',
        payload: { sub: 'a@clients', aud: audience, azp: 'a', permissions: [read, 'create:videos', 'x', 1] },
        name: 'a',
        scopes: [read, write],
      },
      {
        what: 'a claim of an action',
        payload: { sub: 'auth0|65', aud: audience, azp: 'web', 'https://cms.example/roles': ['editor'] },
        name: 'web',
        scopes: [read, write],
      },
      {
        what: 'what the user asked for and may not',
        payload: { sub: 'auth0|65', aud: audience, azp: 'web', scope: 'videos:read', permissions: [] },
        scopes: [],
      },
    ],
  },
]
