import { type Provider, read, write } from './shape.ts'

export const keycloak: Provider[] = [
  {
    name: 'Keycloak: audience mapper and client scopes',
    path: '/realms/video',
    env: { OAUTH_AUDIENCE: 'video-gateway' },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'service account',
        payload: {
          jti: 'trrtcc:7cc4',
          aud: ['video-gateway', 'account'],
          sub: 'd31b3f27-8a42-4e73-9b3a-0e3f0f3c1b5a',
          typ: 'Bearer',
          azp: 'back-office',
          acr: '1',
          realm_access: { roles: ['offline_access', 'default-roles-video'] },
          resource_access: { account: { roles: ['manage-account'] } },
          scope: 'email profile videos:read videos:write',
          clientHost: '10.0.0.7',
          preferred_username: 'service-account-back-office',
          client_id: 'back-office',
        },
        name: 'back-office',
        scopes: [read, write],
      },
      {
        what: 'user, before version 24: the nonce is in every token',
        payload: { aud: 'video-gateway', sub: 'u', typ: 'Bearer', azp: 'web', nonce: 'n', scope: read },
        name: 'web',
        scopes: [read],
      },
      {
        what: 'no mapper',
        payload: { aud: 'account', typ: 'Bearer', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'refresh token',
        payload: { aud: 'video-gateway', typ: 'Refresh', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'offline token',
        payload: { aud: 'video-gateway', typ: 'Offline', azp: 'web', scope: read },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { aud: 'video-gateway', typ: 'ID', azp: 'video-gateway', at_hash: 'x', scope: read },
        scopes: 'refused',
      },
      {
        what: 'logout token',
        header: { typ: 'logout+jwt' },
        payload: { aud: 'video-gateway', typ: 'Logout', events: {}, scope: read, azp: 'web' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Keycloak: roles of the realm and of a client',
    path: '/realms/video',
    env: {
      OAUTH_AUDIENCE: 'video.gateway',
      OAUTH_SCOPE_CLAIMS: 'realm_access.roles,resource_access.video.gateway.roles',
      OAUTH_SCOPE_MAP:
        'Video Editor=videos:read+videos:write,video-admin=videos:read+videos:write+videos:delete',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'realm role with a space, by the map',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          realm_access: { roles: ['uma_authorization', 'Video Editor'] },
          scope: 'email',
        },
        name: 'cms',
        scopes: [read, write],
      },
      {
        what: 'role of a client whose name has a dot, named like a scope',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          resource_access: { 'video.gateway': { roles: [read] }, other: { roles: ['video-admin'] } },
        },
        name: 'cms',
        scopes: [read],
      },
      {
        what: 'both',
        payload: {
          aud: 'video.gateway',
          typ: 'Bearer',
          azp: 'cms',
          realm_access: { roles: [read] },
          resource_access: { 'video.gateway': { roles: ['video-admin'] } },
        },
        name: 'cms',
        scopes: [read, write, 'videos:delete'],
      },
      {
        what: 'scopes are not asked for',
        payload: { aud: 'video.gateway', typ: 'Bearer', azp: 'cms', scope: read },
        scopes: [],
      },
      {
        what: 'roles of unexpected types',
        payload: {
          aud: 'video.gateway',
          azp: 'cms',
          typ: 'Bearer',
          realm_access: { roles: [{ 'videos:read': true }, 1, null, [read]] },
          resource_access: 'video.gateway.roles',
        },
        scopes: [],
      },
    ],
  },
]
